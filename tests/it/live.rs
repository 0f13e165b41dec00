//! The live side, with a real model server and real sockets on loopback.

mod adoption;
mod backends;
mod browser;
mod calibrate;
mod daemon;
mod fidelity;
// What the hour of switches is measured with: `serve_cost .. soak 1h 10s`, of which `load`'s hundred are the shortened form.
#[path = "../../examples/serve_cost/footprint.rs"]
#[expect(dead_code, reason = "a table of an hour is printed in MiB")]
mod footprint;
mod gguf;
mod hang;
mod hog;
mod load;
mod pressure;
mod recording;
mod reload;
mod router;
mod security;
mod serve;
mod serving;
mod shadow;
mod standin;
mod story;
mod watching;
