"""Real clients, each with its own defaults, compared with a bare llama-server.

Each cell of the table is one feature of one client. It is tried on both servers; the result is "works", or the class of
the error that the client raises. No cell may be worse than bare: where bare works, tiershift works, and where bare raises an
error, tiershift raises one of the same class.

    clients.py TIERSHIFT_URL BARE_URL [--only NAME]
"""

import asyncio
import os
import sys
import traceback

os.environ.setdefault("OPENAI_API_KEY", "none")
os.environ.setdefault("OPENAI_AGENTS_DISABLE_TRACING", "1")
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

MODEL = "auto"
SAID = [{"role": "user", "content": "The cat sat on the mat."}]
TOO_LONG = [{"role": "user", "content": "the cat sat on the mat " * 4000}]
PICTURE = [{"role": "user", "content": [
    {"type": "text", "text": "What is this?"},
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
]}]
TOOL = {"type": "function", "function": {
    "name": "weather", "description": "The weather of a place",
    "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
}}
SCHEMA = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 8}},
          "required": ["name"], "additionalProperties": False}
CELLS = []


def cell(client, feature):
    def add(function):
        CELLS.append((client, feature, function))
        return function
    return add


def openai(url, **settings):
    from openai import OpenAI
    return OpenAI(base_url=url + "/v1", api_key="none", timeout=120, **settings)


def must(what, why):
    assert what, why


# openai

@cell("openai", "chat")
def _(url):
    reply = openai(url).chat.completions.create(model=MODEL, messages=SAID, max_tokens=8)
    must(reply.choices[0].message.content and reply.usage.completion_tokens, "no words")


@cell("openai", "stream")
def _(url):
    stream = openai(url).chat.completions.create(
        model=MODEL, messages=SAID, max_tokens=8, stream=True, stream_options={"include_usage": True})
    must(list(stream)[-1].usage.completion_tokens == 8, "no usage at the end")


@cell("openai", "max_tokens near the context")
def _(url):
    openai(url).chat.completions.create(model=MODEL, messages=SAID, max_tokens=4090, stop=[" "])


@cell("openai", "tools")
def _(url):
    openai(url).chat.completions.create(
        model=MODEL, messages=SAID, tools=[TOOL], tool_choice="required", max_tokens=200)


@cell("openai", "JSON schema")
def _(url):
    openai(url).chat.completions.create(model=MODEL, messages=SAID, max_tokens=200, response_format={
        "type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA, "strict": True}})


@cell("openai", "completions")
def _(url):
    openai(url).completions.create(model=MODEL, prompt="The cat", max_tokens=4, logprobs=2)


@cell("openai", "embeddings of 200 texts")
def _(url):
    made = openai(url).embeddings.create(model=MODEL, input=["the cat sat on the mat"] * 200)
    must(len(made.data) == 200, "not all of them")


@cell("openai", "responses")
def _(url):
    must(openai(url).responses.create(model=MODEL, input="The cat", max_output_tokens=8).output, "no output")


@cell("openai", "responses, stream")
def _(url):
    stream = openai(url).responses.create(model=MODEL, input="The cat", max_output_tokens=8, stream=True)
    must(list(stream)[-1].type == "response.completed", "not complete")


@cell("openai", "models")
def _(url):
    client = openai(url)
    client.models.retrieve(next(iter(client.models.list())).id)


@cell("openai", "a picture to a model that sees none")
def _(url):
    openai(url, max_retries=0).chat.completions.create(model=MODEL, messages=PICTURE, max_tokens=4)


@cell("openai", "a message without a role")
def _(url):
    openai(url, max_retries=0).chat.completions.create(model=MODEL, messages=[{"content": "hi"}], max_tokens=4)


@cell("openai", "a prompt beyond the context")
def _(url):
    openai(url).chat.completions.create(model=MODEL, messages=TOO_LONG, max_tokens=4)


@cell("openai", "a model's name that nobody has")
def _(url):
    openai(url).chat.completions.create(model="gpt-4o-mini", messages=SAID, max_tokens=4)


@cell("openai", "base URL without /v1")
def _(url):
    from openai import OpenAI
    OpenAI(base_url=url, api_key="none").chat.completions.create(model=MODEL, messages=SAID, max_tokens=4)


@cell("openai", "ten at once")
def _(url):
    from openai import AsyncOpenAI

    async def all_of_them():
        client = AsyncOpenAI(base_url=url + "/v1", api_key="none", max_retries=0, timeout=300)
        ask = lambda: client.chat.completions.create(model=MODEL, messages=SAID, max_tokens=40)
        await asyncio.gather(*(ask() for _ in range(10)))
    asyncio.run(all_of_them())


# litellm

def litellm(url, messages=SAID, **settings):
    import litellm
    litellm.suppress_debug_info = True
    return litellm.completion(model="openai/" + MODEL, api_base=url + "/v1", api_key="none", messages=messages,
                              max_tokens=8, **settings)


@cell("litellm", "chat")
def _(url):
    must(litellm(url).choices[0].message.content, "no words")


@cell("litellm", "stream")
def _(url):
    must(list(litellm(url, stream=True)), "nothing")


@cell("litellm", "tools")
def _(url):
    litellm(url, tools=[TOOL])


@cell("litellm", "responses")
def _(url):
    import litellm
    litellm.responses(model="openai/" + MODEL, api_base=url + "/v1", api_key="none", input="The cat",
                      max_output_tokens=8)


@cell("litellm", "a prompt beyond the context")
def _(url):
    litellm(url, TOO_LONG)


# langchain

def langchain(url, **settings):
    from langchain_openai import ChatOpenAI
    return ChatOpenAI(model=MODEL, base_url=url + "/v1", api_key="none", **settings)


@cell("langchain-openai", "chat")
def _(url):
    must(langchain(url, max_tokens=8).invoke("The cat").content, "no words")


@cell("langchain-openai", "stream")
def _(url):
    must(list(langchain(url, max_tokens=8).stream("The cat")), "nothing")


@cell("langchain-openai", "tools")
def _(url):
    langchain(url, max_tokens=200).bind_tools([TOOL], tool_choice="any").invoke("The weather in Rome?")


@cell("langchain-openai", "JSON schema")
def _(url):
    schema = {"title": "a", "description": "a", **SCHEMA}
    langchain(url, max_tokens=200).with_structured_output(schema, method="json_schema").invoke("A name")


@cell("langchain-openai", "embeddings of 1000 texts")
def _(url):
    from langchain_openai import OpenAIEmbeddings
    made = OpenAIEmbeddings(model=MODEL, base_url=url + "/v1", api_key="none", check_embedding_ctx_length=False)
    must(len(made.embed_documents(["the cat"] * 1000)) == 1000, "not all of them")


@cell("langchain-openai", "responses")
def _(url):
    langchain(url, max_tokens=8, use_responses_api=True).invoke("The cat")


# llama-index

def llama_index(url):
    from llama_index.llms.openai_like import OpenAILike
    return OpenAILike(model=MODEL, api_base=url + "/v1", api_key="none", is_chat_model=True, max_tokens=8)


@cell("llama-index", "chat")
def _(url):
    from llama_index.core.llms import ChatMessage
    llama_index(url).chat([ChatMessage(role="user", content="The cat")])


@cell("llama-index", "stream")
def _(url):
    must(list(llama_index(url).stream_complete("The cat")), "nothing")


# pydantic-ai

def pydantic_ai(url, kind):
    from pydantic_ai import Agent
    from pydantic_ai.models import openai as models
    from pydantic_ai.providers.openai import OpenAIProvider
    provider = OpenAIProvider(base_url=url + "/v1", api_key="none")
    model = getattr(models, kind)(MODEL, provider=provider)
    return Agent(model, model_settings={"max_tokens": 8})


@cell("pydantic-ai", "chat")
def _(url):
    pydantic_ai(url, "OpenAIChatModel").run_sync("The cat")


@cell("pydantic-ai", "responses, its default")
def _(url):
    pydantic_ai(url, "OpenAIResponsesModel").run_sync("The cat")


# openai-agents

def agents(url, kind):
    import agents
    from openai import AsyncOpenAI
    client = AsyncOpenAI(base_url=url + "/v1", api_key="none")
    model = getattr(agents, kind)(model=MODEL, openai_client=client)
    agent = agents.Agent(name="a", model=model, model_settings=agents.ModelSettings(max_tokens=8))
    return agents.Runner.run_sync(agent, "The cat")


@cell("openai-agents", "responses, its default")
def _(url):
    agents(url, "OpenAIResponsesModel")


@cell("openai-agents", "chat")
def _(url):
    agents(url, "OpenAIChatCompletionsModel")


# anthropic

def anthropic(url):
    from anthropic import Anthropic
    return Anthropic(base_url=url, api_key="none")


@cell("anthropic", "messages")
def _(url):
    must(anthropic(url).messages.create(model=MODEL, messages=SAID, max_tokens=8).usage.output_tokens, "no usage")


@cell("anthropic", "stream")
def _(url):
    with anthropic(url).messages.stream(model=MODEL, messages=SAID, max_tokens=8) as stream:
        must("".join(stream.text_stream), "no words")
        must(stream.get_final_message().stop_reason, "no end")


@cell("anthropic", "count_tokens")
def _(url):
    must(anthropic(url).messages.count_tokens(model=MODEL, messages=SAID).input_tokens, "no count")


@cell("anthropic", "a prompt beyond the context")
def _(url):
    anthropic(url).messages.create(model=MODEL, messages=TOO_LONG, max_tokens=8)


# aider, in its own environment: it needs another version of litellm

@cell("aider", "a question")
def _(url):
    import subprocess
    import tempfile
    program = os.environ.get("AIDER")
    if program is None:
        raise ModuleNotFoundError(name="aider")
    with tempfile.TemporaryDirectory() as folder:
        # A model with random weights never ends a reply by itself.
        with open(os.path.join(folder, ".aider.model.settings.yml"), "w") as settings:
            settings.write(f"- name: openai/{MODEL}\n  extra_params:\n    max_tokens: 16\n")
        words = [program, "--model", "openai/" + MODEL, "--openai-api-base", url + "/v1", "--openai-api-key", "none",
                 "--no-git", "--yes-always", "--no-check-update", "--no-show-model-warnings", "--no-analytics",
                 "--no-gitignore", "--map-tokens", "0", "--edit-format", "ask", "--message", "Say a word."]
        ran = subprocess.run(words, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
        said = ran.stdout + ran.stderr
        must(ran.returncode == 0 and "litellm." not in said and "okens:" in said, said)


def tried(function, url):
    try:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        function(url)
        return "works"
    except ModuleNotFoundError as error:
        return f"not installed ({error.name})"
    except Exception as error:
        if os.environ.get("TRACE"):
            traceback.print_exc()
        return type(error).__name__


def main():
    tier, bare = sys.argv[1:3]
    only = sys.argv[4] if "--only" in sys.argv else None
    worse = 0
    print("| client | feature | tiershift | bare |\n| --- | --- | --- | --- |", flush=True)
    for client, feature, function in CELLS:
        if only not in (None, client):
            continue
        alone, through = tried(function, bare), tried(function, tier)
        is_worse = through not in (alone, "works")
        worse += is_worse
        mark = " **worse**" if is_worse else ""
        print(f"| {client} | {feature} | {through}{mark} | {alone} |", flush=True)
    print(f"\n{worse} of {len(CELLS)} cells are worse than bare")
    sys.exit(1 if worse else 0)


if __name__ == "__main__":
    main()
