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
    let head = String::from_utf8_lossy(source.head()?).into_owned();
    let head = head.trim_start_matches('\u{feff}');
    let name = path.file_stem().map_or("mine".into(), |stem| stem.to_string_lossy());
    Ok(draft(&name, head))
}

fn draft(name: &str, head: &str) -> String {
    let lines: Vec<&str> =
        head.lines().filter(|line| !line.trim().is_empty()).take(LINES).collect();
    let quoted = name.replace(['"', '\\'], "_");
    let mut out = format!(
        "# A draft: check each line, take away what is not meant, then `tiershift import FILE OUT.csv --format THIS.toml`.\n\
         name = \"{quoted}\"\nabout = \"\"\nkind = \"resource\"   # or \"request\", with prompt_tokens and output_tokens\n\n"
    );
    let json = lines.first().and_then(|line| serde_json::from_str::<Json>(line).ok());
    if let Some(Json::Object(object)) = json {
        let mut columns = Vec::new();
        leaves(&Json::Object(object), "", &mut columns);
        out.push_str("[layout]\nshape = \"json-lines\"\n");
        fields(&columns, &mut out);
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
    let header = rows.first().filter(|row| !row.iter().any(is_number));
    let row = rows.get(usize::from(header.is_some()));
    let columns: Vec<(String, String)> = (0..width)
        .map(|at| {
            let name = header.and_then(|header| header.get(at)).cloned();
            let value = row.and_then(|row| row.get(at)).cloned().unwrap_or_default();
            (name.unwrap_or_else(|| format!("column{}", at + 1)), value)
        })
        .filter(|(name, _)| !name.is_empty())
        .collect();
    if header.is_none() {
        let names: Vec<_> = columns.iter().map(|(name, _)| format!("{name:?}")).collect();
        let _ = writeln!(out, "columns = [{}]   # the file names none", names.join(", "));
    }
    fields(&columns, out);
}

/// Writes the time and the fields, from the columns' names and first values.
fn fields(columns: &[(String, String)], out: &mut String) {
    let time = columns.iter().find_map(|(name, value)| Some((name, form(value)?)));
    match &time {
        Some((name, form)) => {
            let _ = writeln!(out, "\n[time]\ncolumns = [{name:?}]\nforms = [{form:?}]");
        }
        None => out.push_str("\n[time]\ninterval = \"1s\"   # no column was seen to be a time\n"),
    }
    for (name, value) in
        columns.iter().filter(|(name, _)| time.as_ref().is_none_or(|(time, _)| *time != name))
    {
        let (digits, of_cell) = number::split_unit(value);
        if number::decimal(digits, None).is_none() {
            let _ = writeln!(out, "\n# {name:?} is {value:?}: not a number");
            continue;
        }
        let of_name = table::unit_of(name).filter(|unit| unit.parse::<Unit>().is_ok());
        let stated =
            [of_cell, of_name.unwrap_or_default()].into_iter().find(|unit| !unit.is_empty());
        let to = guess(name);
        let unit = match (stated, to) {
            (Some(unit), _) => unit,
            (None, Some(to)) if to.ends_with("_bytes") => "MiB\"   # a guess: \"B",
            (None, Some(to)) if to.ends_with("celsius") => "C",
            (None, Some(to)) if to.ends_with("percent") => "%\"   # a guess: \"fraction",
            (None, _) => "1",
        };
        let mark = if to.is_some() { "" } else { "# " };
        let _ = write!(
            out,
            "\n{mark}[[field]]   # {name:?} is {value:?}\n{mark}to = {:?}\n{mark}unit = \"{unit}\"\n{mark}plus = [{name:?}]\n",
            to.unwrap_or("")
        );
    }
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
    let gpu = has(&["gpu", "vram", "nvidia", "cuda", "framebuffer", "fb_"]);
    let memory = has(&["mem", "ram", "fb_"]);
    let temperature = has(&["temp", "celsius", "°c"]);
    Some(match () {
        () if has(&["prompt", "input"]) && has(&["tok", "len"]) => "prompt_tokens",
        () if has(&["output", "completion", "generat"]) && has(&["tok", "len"]) => "output_tokens",
        () if has(&["clock", "power", "fan", "watt", "bandwidth", "rate"]) => return None,
        () if temperature && gpu => "gpu0_temperature_milli_celsius",
        () if temperature && has(&["cpu"]) => "cpu_temperature_milli_celsius",
        () if memory && gpu && has(&["total"]) => "gpu0_vram_total_bytes",
        () if memory && gpu && has(&["free", "avail"]) => "gpu0_vram_available_bytes",
        () if memory && gpu && has(&["used", "usage"]) => "gpu0_vram_others_bytes",
        () if gpu && has(&["util", "load", "busy", "usage"]) => {
            "gpu0_utilization_others_milli_percent"
        }
        () if memory && !gpu && has(&["total"]) => "memory_total_bytes",
        () if memory && !gpu && has(&["avail"]) => "memory_available_bytes",
        () if memory && !gpu && has(&["percent", "%"]) => "memory_used_milli_percent",
        () if memory && !gpu && has(&["used"]) => "memory_others_bytes",
        () if has(&["cpu", "processor"]) && has(&["idle"]) => "cpu_idle_milli_percent",
        () if has(&["cpu", "processor"]) => "cpu_others_milli_percent",
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

/// The forms to try, specific ones first.
const FORMS: [&str; 12] = [
    "iso8601",
    "%Y/%m/%d %H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f",
    "%d.%m.%Y %H:%M:%S%.f",
    "%m/%d/%Y %H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S,%f",
    "%d-%m-%Y %H:%M:%S",
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
}
