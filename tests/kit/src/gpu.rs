//! A fake GPU: a replacement for the driver's library, which a daemon loads.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tiershift_core::units::Bytes;

/// A GPU whose use a test sets.
#[derive(Debug)]
pub struct Gpu {
    folder: PathBuf,
    total: Bytes,
    /// The model file whose process uses it, and that process's use.
    own: (String, Bytes),
}

impl Gpu {
    /// Builds the library in a folder, with a C compiler. A process of llama-server that runs the file `model` takes `own` of
    /// the GPU's memory.
    ///
    /// # Errors
    /// The compiler's message, or that there is none.
    pub fn build(folder: &Path, total: Bytes, model: &str, own: Bytes) -> Result<Self, String> {
        let source = folder.join("stand-in.c");
        fs::write(&source, SOURCE).map_err(|error| error.to_string())?;
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .arg(folder.join("libnvidia-ml.so.1"))
            .arg(&source)
            .output()
            .map_err(|error| error.to_string())?;
        if !built.status.success() {
            return Err(String::from_utf8_lossy(&built.stderr).into_owned());
        }
        let gpu = Self { folder: folder.to_owned(), total, own: (model.to_owned(), own) };
        gpu.set_others(Bytes::ZERO);
        Ok(gpu)
    }

    /// Sets other programs' use of it.
    pub fn set_others(&self, others: Bytes) {
        let (model, own) = &self.own;
        let text = format!("{} {} {} {model}\n", self.total.get(), others.get(), own.get());
        // Replaced atomically: the daemon may read it at any time.
        let (new, place) = (self.folder.join("gpu.new"), self.folder.join("gpu"));
        fs::write(&new, text).unwrap();
        fs::rename(new, place).unwrap();
    }

    /// Returns the variables of a daemon's environment that give it this GPU.
    pub fn variables(&self) -> [(&'static str, PathBuf); 2] {
        [("LD_LIBRARY_PATH", self.folder.clone()), ("STAND_IN_GPU", self.folder.join("gpu"))]
    }
}

/// The NVML calls of the probe, answered from the file that `STAND_IN_GPU` names: total, others' use, own use, model.
const SOURCE: &str = r#"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long long bytes_t;
typedef struct { bytes_t total, free, used; } memory_t;
typedef struct { unsigned version; bytes_t total, reserved, free, used; } memory2_t;
typedef struct { unsigned gpu, memory; } utilization_t;
typedef struct { unsigned pid; bytes_t used; unsigned instance, compute; } process_t;
enum { OK = 0, NOT_SUPPORTED = 3, TOO_SMALL = 7 };

static bytes_t total, others, own;
static char model[256];

static void look(void) {
  FILE *file = fopen(getenv("STAND_IN_GPU"), "r");
  if (!file) return;
  if (fscanf(file, "%llu %llu %llu %255s", &total, &others, &own, model) != 4) total = 0;
  fclose(file);
}

/* Returns the process that runs the model; 0 where none does. */
static unsigned holder(void) {
  DIR *folder = opendir("/proc");
  struct dirent *entry;
  unsigned found = 0;
  while (folder && !found && (entry = readdir(folder))) {
    char path[300], words[4096];
    if (entry->d_name[0] < '0' || entry->d_name[0] > '9') continue;
    snprintf(path, sizeof path, "/proc/%s/cmdline", entry->d_name);
    FILE *file = fopen(path, "r");
    if (!file) continue;
    size_t length = fread(words, 1, sizeof words - 1, file);
    fclose(file);
    for (size_t i = 0; i < length; i++) if (!words[i]) words[i] = ' ';
    words[length] = 0;
    if (strstr(words, model) && !strstr(words, "tiershift serve")) found = atoi(entry->d_name);
  }
  if (folder) closedir(folder);
  return found;
}

int nvmlInit_v2(void) { return OK; }
int nvmlInitWithFlags(unsigned flags) { return OK; }
int nvmlShutdown(void) { return OK; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 1; return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { *device = (void *)1; return OK; }
int nvmlDeviceGetName(void *device, char *name, unsigned length) { strncpy(name, "Stand-in", length); return OK; }
int nvmlDeviceGetMemoryInfo(void *device, memory_t *memory) {
  look();
  bytes_t used = others + (holder() ? own : 0);
  *memory = (memory_t){ total, used < total ? total - used : 0, used };
  return OK;
}
int nvmlDeviceGetMemoryInfo_v2(void *device, memory2_t *memory) {
  memory_t plain;
  nvmlDeviceGetMemoryInfo(device, &plain);
  memory->total = plain.total; memory->reserved = 0; memory->free = plain.free; memory->used = plain.used;
  return OK;
}
int nvmlDeviceGetUtilizationRates(void *device, utilization_t *rates) { rates->gpu = rates->memory = 1; return OK; }
int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *celsius) { *celsius = 40; return OK; }
int nvmlDeviceGetProcessUtilization(void *device, void *samples, unsigned *count, bytes_t since) { return NOT_SUPPORTED; }
int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, process_t *processes) {
  look();
  unsigned pid = holder(), had = *count;
  *count = pid ? 1 : 0;
  if (!pid) return OK;
  if (!had || !processes) return TOO_SMALL;
  processes[0] = (process_t){ pid, own, ~0u, ~0u };
  return OK;
}
int nvmlDeviceGetComputeRunningProcesses_v2(void *device, unsigned *count, process_t *processes) {
  return nvmlDeviceGetComputeRunningProcesses_v3(device, count, processes);
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(void *device, unsigned *count, process_t *processes) { *count = 0; return OK; }
int nvmlDeviceGetGraphicsRunningProcesses_v2(void *device, unsigned *count, process_t *processes) { *count = 0; return OK; }
const char *nvmlErrorString(int code) { return "stand-in"; }
"#;
