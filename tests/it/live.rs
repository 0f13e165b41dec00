//! The live side, with a real model server and real sockets on loopback.

mod adoption;
mod daemon;
mod gguf;
mod hog;
mod load;
mod pressure;
mod serve;
mod serving;
mod story;
