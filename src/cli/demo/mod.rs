//! `slomod demo`: draws a clip whose true in-between frames are known, has the daemon work it, and shows the result.

pub mod font;
pub mod scene;
pub mod texture;
