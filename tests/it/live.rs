//! The live side, with a real model server and real sockets on loopback.

mod adoption;
mod daemon;
mod gguf;
mod hog;
mod pressure;
mod recording;
mod reload;
mod serve;
mod serving;
mod shadow;
mod story;
