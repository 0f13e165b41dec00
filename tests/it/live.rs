//! The live side, with a real model server and real sockets on loopback.

mod adoption;
mod backends;
mod browser;
mod calibrate;
mod daemon;
mod fidelity;
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
