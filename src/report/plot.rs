//! x
/// x
pub struct PlotData;
