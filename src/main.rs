//! The `tiershift` command.

fn main() {}
