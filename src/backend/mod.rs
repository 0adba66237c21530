//! Fast execution of the ops on a processor or (later) a GPU.

pub mod cpu;
