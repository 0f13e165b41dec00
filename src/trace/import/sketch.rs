//! A draft of a mapping, from a file's first lines.

use std::fmt::Write;
use std::path::Path;

use serde_json::Value as Json;

use crate::trace::TraceError;
use crate::trace::import::clock::{OUR_DAYS, Stamp, TimeForm};
use crate::trace::import::number::{self, Unit};
use crate::trace::import::table;
use crate::trace::source::Source;

/// Drafts a mapping for a file of no known format: its layout, its time, and a line for each column that may be useful.
/// Guesses are marked; the user completes the draft.
///
/// # Errors
/// When the file cannot be read.
pub fn sketch(path: &Path) -> Result<String, TraceError> {
    let mut source = Source::open(path)?;
    let head = source.head()?;
    // The last letter may be cut off.
    let is_other = std::str::from_utf8(head).is_err_and(|error| error.error_len().is_some());
    let head = String::from_utf8_lossy(head).into_owned();
    let head = head.trim_start_matches('\u{feff}');
    let name = path.file_stem().map_or("mine".into(), |stem| stem.to_string_lossy());
    let text = draft(&name, head);
    Ok(match is_other {
        true => text.replacen(
            "[layout]\n",
            "[layout]\nencoding = \"latin1\"   # a guess: it is not UTF-8\n",
            1,
        ),
        false => text,
    })
}

fn draft(name: &str, head: &str) -> String {
    let lines: Vec<&str> =
        head.lines().filter(|line| !line.trim().is_empty()).take(LINES).collect();
    let quoted = name.replace(['"', '\\'], "_");
    let mut out = format!(
        "# A draft: check each line, take away what is not meant, then `tiershift import FILE OUT.csv --format THIS.toml`.\n\
         name = \"{quoted}\"\nabout = \"\"\n{RESOURCE}\n\n"
    );
    let json = lines.first().and_then(|line| serde_json::from_str::<Json>(line).ok());
    if let Some(Json::Object(object)) = json {
        let mut columns = Vec::new();
        leaves(&Json::Object(object), "", &mut columns);
        out.push_str("[layout]\nshape = \"json-lines\"\n");
        fields(&columns, &[], &mut out);
    } else if head.trim_start().starts_with(['{', '[']) {
        out.push_str(
            "[layout]\nshape = \"json\"\nrecords = \"/*\"   # the path of the records, * for any key or index\n\
             # each = \"/values\"   # an array in each record whose elements are rows\n\n\
             [time]\ncolumns = [\"\"]\nforms = [\"seconds\"]\n\n[[field]]\nto = \"\"\nunit = \"\"\nplus = [\"\"]\n",
        );
    } else if let Some((separator, width)) = separator(&lines) {
        table_draft(&lines, separator, width, &mut out);
    } else {
        let row = lines.first().unwrap_or(&"");
        let _ = write!(
            out,
            "[layout]\nshape = \"text\"\n# Put {{name}} where a value stands and {{}} where one stands that is not wanted.\n\
             rows = ['{}']\ntold = []\nskip = []\n\n[time]\ncolumns = [\"time\"]\nforms = [\"%Y-%m-%d %H:%M:%S\"]\n\n\
             [[field]]\nto = \"\"\nunit = \"\"\nplus = [\"\"]\n",
            row.replace('\'', " ")
        );
    }
    out
}

/// Returns the separator that cuts the most lines into the same number of cells, at least two.
fn separator(lines: &[&str]) -> Option<(char, usize)> {
    let count = |separator: char| {
        let mut cells = Vec::new();
        let widths: Vec<_> =
            lines.iter().map(|line| table::cells(line, separator, &mut cells)).collect();
        let width =
            *widths.iter().max_by_key(|&&width| widths.iter().filter(|&&w| w == width).count())?;
        let alike = widths.iter().filter(|&&w| w == width).count();
        // Sentences have blanks too; only lines with the same number of them are a table.
        let is_table = width > 1 && alike * 2 > lines.len() && (separator != ' ' || alike > 1);
        is_table.then_some((alike, width, separator))
    };
    let best = [';', '\t', ',', '|', ' '].into_iter().filter_map(count);
    // Among equally good ones the first.
    best.rev()
        .max_by_key(|&(alike, width, separator)| (alike, separator != ' ', width))
        .map(|(_, width, s)| (s, width))
}

fn table_draft(lines: &[&str], separator: char, width: usize, out: &mut String) {
    let cut = |line: &&str| {
        let mut cells = Vec::new();
        let count = table::cells(line, separator, &mut cells);
        let texts = cells.iter().map(|cell| cell.text.to_owned()).collect();
        (count == width).then_some(texts)
    };
    let rows: Vec<Vec<String>> = lines.iter().filter_map(cut).collect();
    out.push_str("[layout]\nshape = \"table\"\n");
    if separator != ',' {
        let _ = writeln!(out, "separator = {:?}", separator.to_string());
    }
    let is_number = |text: &String| number::decimal(number::split_unit(text).0, None).is_some();
    // A name may begin with a number too, such as `12V [V]`.
    let numbers =
        |at: usize| rows.get(at).map(|row| row.iter().filter(|text| is_number(text)).count());
    let is_header = numbers(0).is_some_and(|names| match numbers(1) {
        Some(values) => names * 2 < values || names == 0,
        None => names == 0,
    });
    let header = rows.first().filter(|_| is_header);
    let row = rows.get(usize::from(header.is_some()));
    let columns_of = |row: Option<&Vec<String>>| -> Vec<(String, String)> {
        let column = |at: usize| {
            let name = header.and_then(|header| header.get(at)).cloned();
            let value = row.and_then(|row| row.get(at)).cloned().unwrap_or_default();
            (name.unwrap_or_else(|| format!("column{}", at + 1)), value)
        };
        (0..width).map(column).filter(|(name, _)| !name.is_empty()).collect()
    };
    let columns = columns_of(row);
    if header.is_none() {
        let names: Vec<_> = columns.iter().map(|(name, _)| format!("{name:?}")).collect();
        let _ = writeln!(out, "columns = [{}]   # the file names none", names.join(", "));
    }
    fields(&columns, &columns_of(rows.last()), out);
}

/// Writes the time and the fields, from the columns' names with their first values, and those of a later row.
fn fields(columns: &[(String, String)], later: &[(String, String)], out: &mut String) {
    let time = time(columns);
    match &time {
        Some(Time { names, form, is_relative }) => {
            let _ = writeln!(out, "\n[time]\ncolumns = {names:?}\nforms = [{form:?}]");
            if *is_relative {
                out.push_str("wall-clock = false   # a guess by the name: times since the start\n");
            }
            if moment(columns, names, form) > moment(later, names, form) {
                out.push_str("sorted = false   # the newest row comes first\n");
            }
        }
        None => out.push_str("\n[time]\ninterval = \"1s\"   # no column was seen to be a time\n"),
    }
    let is_time = |name: &String| time.as_ref().is_some_and(|time| time.names.contains(&name));
    let columns: Vec<_> = columns.iter().filter(|(name, _)| !is_time(name)).collect();
    let guesses: Vec<_> = columns.iter().map(|(name, _)| guess(name)).collect();
    let is_request = guesses.iter().flatten().any(|to| to.ends_with("_tokens"));
    if is_request {
        *out = out.replace(RESOURCE, "kind = \"request\"");
    }
    let has_gpus = guesses.iter().flatten().any(|to| to.starts_with("gpu0_"));
    let by = columns.iter().find(|(name, _)| GPU_NAMES.contains(&name.to_lowercase().as_str()));
    if let Some((name, _)) = by.filter(|_| has_gpus) {
        let _ = writeln!(out, "\n[gpu]\nby = [{name:?}]\nsweep-milliseconds = 1000");
    }
    let mut drafted = Vec::new();
    for ((name, value), to) in columns.iter().copied().zip(guesses) {
        let (digits, of_cell) = number::split_unit(value);
        if number::decimal(digits, None).is_none() {
            let _ = writeln!(out, "\n# {name:?} is {value:?}: not a number");
            continue;
        }
        let of_name = table::unit_of(name).filter(|unit| unit.parse::<Unit>().is_ok());
        let stated =
            [of_cell, of_name.unwrap_or_default()].into_iter().find(|unit| !unit.is_empty());
        let unit = match (stated, to) {
            (Some(unit), _) => unit,
            (None, Some(to)) if to.ends_with("_bytes") => "MiB\"   # a guess: it may be \"B",
            (None, Some(to)) if to.ends_with("celsius") => "C",
            (None, Some(to)) if to.ends_with("percent") => "%\"   # a guess: it may be \"fraction",
            (None, _) => "1",
        };
        let to = to.filter(|to| to.ends_with("_tokens") == is_request);
        // Of several columns for one purpose, only the first would be read.
        let is_first = to.is_none_or(|to| !drafted.contains(&to));
        let alike = alike(&columns, name);
        let plus = if is_first && to == Some(CPU) { alike } else { vec![name] };
        let mark = if to.is_some() && is_first { "" } else { "# " };
        let note = if is_first { "" } else { ": another column was drafted above" };
        let _ = write!(
            out,
            "\n{mark}[[field]]   # {name:?} is {value:?}{note}\n{mark}to = {:?}\n{mark}unit = \"{unit}\"\n{mark}plus = {plus:?}\n",
            to.unwrap_or("")
        );
        if plus.len() > 1 {
            let _ = writeln!(out, "over = [\"={}\"]   # the mean of all processors", plus.len());
        }
        drafted.extend(to);
    }
}

/// Returns the columns whose names differ from this one by their number alone, in their order.
fn alike<'a>(columns: &[&'a (String, String)], name: &str) -> Vec<&'a String> {
    let bare = |name: &str| name.replace(|c: char| c.is_ascii_digit(), "");
    let is_numbered = |name: &str| bare(name) != name;
    let is_alike =
        |other: &str| is_numbered(name) && is_numbered(other) && bare(other) == bare(name);
    let names = columns.iter().map(|(name, _)| name);
    names.filter(|other| *other == name || is_alike(other)).collect()
}

/// Returns what the columns of the time show in a row; the end of time if it is not one.
fn moment(row: &[(String, String)], names: &[&String], form: &str) -> i64 {
    let cells = row.iter().filter(|(name, _)| names.contains(&name));
    let text = cells.map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(" ");
    match form.parse::<TimeForm>().ok().and_then(|form| form.parse(&text)) {
        Some(Stamp::Moment(at)) => at,
        _ => i64::MAX,
    }
}

/// The columns of the time, and its form.
struct Time<'a> {
    names: Vec<&'a String>,
    form: &'static str,
    is_relative: bool,
}

/// Returns the columns that make the time: several where a date is cut at its blanks.
fn time(columns: &[(String, String)]) -> Option<Time<'_>> {
    for length in [3, 2, 1] {
        for window in columns.windows(length) {
            let text = window.iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(" ");
            // The last part of several is the time of day; a number of bytes may be as large as one of seconds.
            let ends_well =
                length == 1 || window.last().is_some_and(|(_, last)| last.contains(':'));
            let measures = |name: &str| {
                guess(name).is_some()
                    || table::unit_of(name).is_some_and(|unit| unit.parse::<Unit>().is_ok())
            };
            let is_other = window.iter().any(|(name, _)| measures(name));
            if let Some(form) =
                form(&text).filter(|form| ends_well && !(is_other && form.ends_with("seconds")))
            {
                let names = window.iter().map(|(name, _)| name).collect();
                return Some(Time { names, form, is_relative: false });
            }
        }
    }
    let (name, value) = columns.first()?;
    let bare = table::bare(name).to_lowercase();
    let is_time = ["time", "elapsed", "seconds", "t_"].iter().any(|word| bare.starts_with(word));
    let is_number = number::decimal(value, None).is_some();
    let unit = table::unit_of(name).unwrap_or_else(|| bare.rsplit('_').next().unwrap_or_default());
    let form = match unit {
        "ms" | "millis" | "milliseconds" => "milliseconds",
        "us" | "micros" | "microseconds" => "microseconds",
        "ns" | "nanos" | "nanoseconds" => "nanoseconds",
        _ => "seconds",
    };
    (is_time && is_number).then(|| Time { names: vec![name], form, is_relative: true })
}

/// Returns the form of a value that is a time.
fn form(value: &str) -> Option<&'static str> {
    FORMS.into_iter().find(|form| {
        let parsed = form.parse::<TimeForm>().ok().and_then(|form| form.parse(value));
        match parsed {
            // Numbers are times if they are in the range of our dates.
            Some(Stamp::Moment(at)) if form.ends_with("seconds") => OUR_DAYS.contains(&at),
            parsed => parsed.is_some(),
        }
    })
}

/// Returns the native column that a name suggests.
fn guess(name: &str) -> Option<&'static str> {
    let name = name.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
    // nvidia-smi's own names do not say that they are of a GPU.
    let is_of_nvidia_smi = ["memory.", "utilization."].iter().any(|word| name.starts_with(word));
    let gpu = is_of_nvidia_smi || has(&["gpu", "vram", "nvidia", "cuda", "framebuffer", "fb_"]);
    let memory = has(&["mem", "ram", "fb_"]);
    let temperature = has(&["temp", "celsius", "°c"]);
    // Times, rates and powers are none of it.
    if table::unit_of(&name).is_some_and(|unit| NOT_READ.contains(&unit)) {
        return None;
    }
    Some(match () {
        () if has(&["prompt", "input"]) && has(&["tok", "len"]) => "prompt_tokens",
        () if has(&["output", "completion", "generat"]) && has(&["tok", "len"]) => "output_tokens",
        () if has(&["clock", "power", "fan", "watt", "bandwidth", "rate"]) => return None,
        () if temperature && gpu => "gpu0_temperature_milli_celsius",
        () if temperature && has(&["cpu"]) => "cpu_temperature_milli_celsius",
        // The traffic of video memory, not its use.
        () if memory && gpu && has(&["util"]) => return None,
        () if memory && gpu && has(&["used", "usage"]) => "gpu0_vram_others_bytes",
        () if memory && gpu && has(&["free", "avail"]) => "gpu0_vram_available_bytes",
        () if memory && gpu && has(&["total"]) => "gpu0_vram_total_bytes",
        () if gpu && !memory && has(&["util", "load", "busy", "usage", "use ", "use_"]) => {
            "gpu0_utilization_others_milli_percent"
        }
        () if memory && !gpu && has(&["total"]) => "memory_total_bytes",
        () if memory && !gpu && has(&["avail"]) => "memory_available_bytes",
        () if memory && !gpu && has(&["percent", "%"]) => "memory_used_milli_percent",
        () if memory && !gpu && has(&["used"]) => "memory_others_bytes",
        () if has(&["cpu", "processor"]) && has(&["idle"]) => "cpu_idle_milli_percent",
        () if has(&["cpu", "processor"]) => CPU,
        () => return None,
    })
}

/// Collects the numbers and texts of an object with their pointers.
fn leaves(json: &Json, path: &str, into: &mut Vec<(String, String)>) {
    match json {
        Json::Object(object) => {
            for (key, value) in object {
                leaves(value, &format!("{path}/{key}"), into);
            }
        }
        Json::Array(_) | Json::Null | Json::Bool(_) => {}
        Json::String(text) => into.push((path.to_owned(), text.clone())),
        Json::Number(number) => into.push((path.to_owned(), number.to_string())),
    }
}

const RESOURCE: &str =
    "kind = \"resource\"   # or \"request\", with prompt_tokens and output_tokens";
const CPU: &str = "cpu_others_milli_percent";
/// Units, in small letters, of what no column of a native trace holds.
const NOT_READ: [&str; 9] = ["ms", "s", "us", "mhz", "ghz", "w", "v", "a", "rpm"];
/// Names of columns that distinguish GPUs.
const GPU_NAMES: [&str; 10] = [
    "index",
    "gpu_index",
    "index_gpu",
    "gpu_id",
    "uuid",
    "gpu_uuid",
    "pci.bus_id",
    "pci_bus_id",
    "gpu_bus_id",
    "device",
];
/// The forms to try, specific ones first.
const FORMS: [&str; 13] = [
    "iso8601",
    "%Y/%m/%d %H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f",
    "%d.%m.%Y %H:%M:%S%.f",
    "%m/%d/%Y %H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S,%f",
    "%d-%m-%Y %H:%M:%S",
    "%b %d %H:%M:%S%.f",
    "%H:%M:%S%.f",
    "seconds",
    "milliseconds",
    "microseconds",
    "nanoseconds",
];
/// The number of lines that are examined. Chosen: beyond any tool's preamble.
const LINES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::import::Mapping;

    #[test]
    fn a_draft_is_a_mapping_that_names_the_columns_it_knows() {
        for (head, wanted) in [
            (
                "when,cpu_percent,mem_used_mb [MB],gpu_temp,power\n2031-03-04 08:00:00,1,2,3,4\n",
                &[
                    "columns = [\"when\"]",
                    "cpu_others_milli_percent",
                    "memory_others_bytes",
                    "unit = \"MB\"",
                    "gpu0_temperature",
                ][..],
            ),
            (
                "4.3.2031 08:00:00;12,5\n4.3.2031 08:00:01;13,5\n",
                &["columns = [\"column1\", \"column2\"]", "%d.%m.%Y"],
            ),
            (
                "{\"ts\": 1931336400.5, \"gpu\": {\"mem_used\": 3}}\n",
                &["json-lines", "\"/ts\"", "gpu0_vram_others_bytes"],
            ),
            ("{\n\"a\": [", &["shape = \"json\"", "records"]),
            ("hello it's me\n", &["shape = \"text\"", "rows = ['hello it s me']"]),
        ] {
            let text = draft("mine", head);
            for want in wanted {
                assert!(text.contains(want), "{want} in {text}");
            }
        }
        let table = draft("mine", "when,cpu_percent,mem_total\n2031-03-04 08:00:00,1,2\n");
        assert!(Mapping::parse("draft", &table).is_ok(), "{table}");
    }

    #[track_caller]
    fn check(head: &str, wanted: &[&str], unwanted: &[&str]) {
        let text = draft("mine", head);
        assert!(Mapping::parse("draft", &text).is_ok(), "{text}");
        for want in wanted {
            assert!(text.contains(want), "{want} in {text}");
        }
        for unwanted in unwanted {
            assert!(!text.contains(unwanted), "{unwanted} in {text}");
        }
    }

    #[test]
    fn a_draft_takes_no_column_for_what_it_is_not() {
        // nvidia-smi's memory is that of the GPU.
        check(
            "timestamp;index;utilization.gpu [%];utilization.memory [%];memory.used [MiB];memory.total [MiB]\n\
             2031/03/04 08:00:00.5;0;7 %;3 %;500 MiB;8192 MiB\n",
            &[
                "[gpu]\nby = [\"index\"]",
                "\nto = \"gpu0_vram_total_bytes\"",
                "\nto = \"gpu0_vram_others_bytes\"",
            ],
            &["\"memory_", "\nplus = [\"utilization.memory [%]\"]"],
        );
        // One processor is not the machine, and of two sums only one is read.
        check(
            "t_ms,cpu0,cpu1,cpu_temp,processor\n0,10,20,50,15\n500,10,30,50,20\n",
            &[
                "forms = [\"milliseconds\"]\nwall-clock = false",
                "plus = [\"cpu0\", \"cpu1\"]\nover = [\"=2\"]",
                "# [[field]]   # \"processor\"",
            ],
            &["\nplus = [\"cpu1\"]"],
        );
    }

    #[test]
    fn a_draft_finds_times_headers_and_requests() {
        check("day hour cpu\n2031-03-04 08:00:00 1\n", &["columns = [\"day\", \"hour\"]"], &[]);
        check(
            "a b c cpu\nMar 04 08:00:00 1\n",
            &["columns = [\"a\", \"b\", \"c\"]", "%b %d %H:%M:%S%.f"],
            &[],
        );
        check(
            "Zeit,Größe,12V [V],cpu [%]\n2031-03-04 08:00:00,7,12.1,5\n",
            &["columns = [\"Zeit\"]", "# plus = [\"12V [V]\"]"],
            &["column1"],
        );
        check(
            "when,cpu\n2031-03-04 08:00:05,1\n2031-03-04 08:00:00,1\n",
            &["forms = [\"iso8601\"]\nsorted = false"],
            &[],
        );
        check(
            "when,prompt_length,output_tokens,cpu\n2031-03-04 08:00:00,7,8,9\n",
            &["kind = \"request\"", "\nto = \"prompt_tokens\"", "# plus = [\"cpu\"]"],
            &["cpu_others", "memory_used"],
        );
    }
}
