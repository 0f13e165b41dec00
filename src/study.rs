//! Work on whole runs: replay a recording, check a suite of scenarios against its expectations, verify a log; and the
//! museum of ideas that ours is compared with.

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
