//! JPEGs that say how they are to be shown.

/// The JPEG `plain`, which says now that it is to be turned to the right by a quarter (EXIF orientation 6).
pub fn turned(plain: &[u8]) -> Vec<u8> {
    // TIFF, little endian, one entry: tag 0x0112, a short, one of it, 6.
    let exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    let length = u16::try_from(exif.len() + 2).unwrap().to_be_bytes();
    [&plain[..2], b"\xff\xe1", &length, exif, &plain[2..]].concat()
}
