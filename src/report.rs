//! Readers of runs: figures and logs in, bytes out.
