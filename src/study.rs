//! What is done with whole runs: play a recording, hold a suite of scenarios to its expectations, verify a log; the museum
//! of ideas that ours is judged against.

pub mod compare;
pub mod folder;
pub mod hunt;
pub mod minimise;
pub mod museum;
pub mod oracle;
pub mod parting;
pub mod pool;
pub mod replay;
pub mod retold;
pub mod suite;
pub mod sweep;
pub mod track;
pub mod tune;
pub mod verify;
