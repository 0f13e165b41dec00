//! Writes native resource CSV.

use std::io::Write;

use tiershift_core::machine::Machine;
use tiershift_core::sample::{GpuSample, Rate, Sample, Space};
use tiershift_core::time::Timestamp;
use tiershift_core::units::Celsius;

use crate::trace::column;
use crate::trace::native::{RESOURCE_MAGIC, VERSION};

/// Writes native resource CSV. Each row is passed to the file at once: a kill loses at most one row.
pub struct NativeWriter<W: Write> {
    output: W,
    gpus: usize,
    cpus: u32,
    row: Vec<u8>,
}

impl<W: Write> NativeWriter<W> {
    /// Writes the preamble and the header. `about` becomes `# key: value` lines, in its order; `machine` determines the
    /// columns for GPUs and the number of processors.
    ///
    /// # Errors
    /// When the output fails.
    pub fn new(
        mut output: W,
        machine: &Machine,
        about: &[(String, String)],
    ) -> std::io::Result<Self> {
        let mut head = format!("{RESOURCE_MAGIC}{VERSION}\n");
        for (key, value) in about {
            // A line end inside would begin a row.
            let line = format!("# {key}: {value}").replace(['\n', '\r'], " ");
            head.push_str(&line);
            head.push('\n');
        }
        head.push_str("at_ns,");
        head.push_str(&column::names(machine.gpus.len()).join(","));
        head.push('\n');
        output.write_all(head.as_bytes())?;
        output.flush()?;
        Ok(Self { output, gpus: machine.gpus.len(), cpus: machine.cpus, row: Vec::new() })
    }

    /// Writes a row. GPUs beyond those of the header's machine are an error, never dropped.
    ///
    /// # Errors
    /// When the output fails.
    pub fn write(&mut self, at: Timestamp, sample: &Sample) -> std::io::Result<()> {
        if sample.gpus.len() > self.gpus {
            let reason = format!(
                "the sample has {} GPUs, the header {}: begin a new trace",
                sample.gpus.len(),
                self.gpus
            );
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, reason));
        }
        self.row.clear();
        write!(self.row, "{}", at.as_nanos())?;
        let space = |space: Option<Space>| {
            space.map_or([None; 3], |s| {
                [Some(s.total.get()), Some(s.others.get()), Some(s.own.get())]
            })
        };
        let rate = |rate: Option<Rate>| {
            rate.map_or([None; 2], |r| [r.others, r.own].map(|p| Some(u64::from(p.milli()))))
        };
        self.cells(&space(sample.memory))?;
        let [total, others, swap_own] = space(sample.swap);
        self.cells(&[total, others])?;
        self.cells(&rate(sample.cpu))?;
        self.cells(&[sample.load_milli.map(u64::from)])?;
        let pressure = sample.pressure.map_or([None; 4], |p| {
            [p.memory_some, p.memory_full, p.cpu_some, p.io_some]
                .map(|percent| Some(u64::from(percent.milli())))
        });
        self.cells(&pressure)?;
        self.celsius(sample.cpu_temperature)?;
        self.cells(&[swap_own, (self.cpus > 0).then_some(u64::from(self.cpus))])?;
        for gpu in 0..self.gpus {
            let gpu = sample.gpus.get(gpu).copied().unwrap_or(GpuSample::default());
            self.cells(&space(gpu.vram))?;
            self.cells(&rate(gpu.utilization))?;
            self.celsius(gpu.temperature)?;
        }
        self.row.push(b'\n');
        self.output.write_all(&self.row)?;
        self.output.flush()
    }

    /// Returns the output.
    pub fn into_inner(self) -> W {
        self.output
    }

    fn cells(&mut self, values: &[Option<u64>]) -> std::io::Result<()> {
        for value in values {
            match value {
                Some(value) => write!(self.row, ",{value}")?,
                None => self.row.push(b','),
            }
        }
        Ok(())
    }

    fn celsius(&mut self, value: Option<Celsius>) -> std::io::Result<()> {
        match value {
            Some(value) => write!(self.row, ",{}", value.milli()),
            None => {
                self.row.push(b',');
                Ok(())
            }
        }
    }
}
