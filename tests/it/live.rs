//! The live side, with a real model server and real sockets on loopback.

mod adoption;
mod browser;
mod daemon;
mod gguf;
mod hog;
mod pressure;
mod recording;
mod security;
mod serve;
mod serving;
mod story;
mod watching;
