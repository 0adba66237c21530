//! What is made beside an output.

use serde::{Deserialize, Serialize};

/// What is made beside an output, as files whose names begin with that of the output.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Beside {
    /// A line for every output frame: what it shows, and hashes of source and output frame.
    pub frame_list: bool,
}
