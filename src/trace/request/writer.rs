//! Writes native request CSV.

use std::io::Write;

use tiershift_core::request::{Request, Target};
use tiershift_core::time::{Timestamp, nanos};

use crate::trace::native::{REQUEST_MAGIC, VERSION};
use crate::trace::request::rows::fits_a_cell;
use crate::trace::request::rows::{Column, TASKS};

/// Writes native request CSV.
pub struct RequestWriter<W: Write> {
    output: W,
}

impl<W: Write> RequestWriter<W> {
    /// Writes the preamble and the header.
    ///
    /// # Errors
    /// When the output fails.
    pub fn new(mut output: W, about: &[(String, String)]) -> std::io::Result<Self> {
        let mut head = format!("{REQUEST_MAGIC}{VERSION}\n");
        for (key, value) in about {
            head.push_str(&format!("# {key}: {value}").replace(['\n', '\r'], " "));
            head.push('\n');
        }
        head.push_str(&Column::ALL.map(|(name, _)| name).join(","));
        head.push('\n');
        output.write_all(head.as_bytes())?;
        Ok(Self { output })
    }

    /// Writes a row.
    ///
    /// # Errors
    /// When the output fails; also for a target whose name would break the row.
    pub fn write(&mut self, at: Timestamp, request: &Request) -> std::io::Result<()> {
        let task =
            TASKS.iter().find(|(_, task)| *task == request.task).map_or("", |(name, _)| name);
        let target = match &request.target {
            Target::Auto => String::new(),
            Target::Tier(name) => format!("tier:{name}"),
            Target::Model(id) => format!("model:{id}"),
        };
        if !fits_a_cell(&target) {
            let reason = format!("the name in \"{target}\" cannot stand in a CSV cell");
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, reason));
        }
        let patience = request.patience.map(|patience| nanos(patience).to_string());
        writeln!(
            self.output,
            "{},{},{},{task},{target},{},{}",
            at.as_nanos(),
            request.prompt_tokens,
            request.output_tokens,
            request.priority,
            patience.unwrap_or_default()
        )
    }

    /// Returns the output.
    pub fn into_inner(self) -> W {
        self.output
    }
}
