//! What kind of file system a path lies on, and whether it is still the same one.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::config::file::Watch;

/// File systems whose changes by other machines give no events here, by the number that `statfs` gives them.
const NETWORK: [(u32, &str); 13] = [
    (0x6969, "NFS"),
    (0xFF53_4D42, "CIFS"),
    (0xFE53_4D42, "SMB2"),
    (0x517B, "SMB"),
    (0x6573_5546, "FUSE"),
    (0x0102_1997, "9p"),
    (0x00C3_6400, "Ceph"),
    (0x5346_414F, "AFS"),
    (0x6B41_4653, "AFS"),
    (0x7375_7245, "Coda"),
    (0x0187, "autofs"),
    (0x6A65_6A63, "virtiofs"),
    (0x0BD0_0BD0, "Lustre"),
];

/// Linux's SMB clients.
const SMB: [u32; 3] = [0xFF53_4D42, 0xFE53_4D42, 0x517B];

/// File systems to which Linux gives the number of the device they lie on, which may be another after the next boot: XFS,
/// FAT, exFAT, NTFS (both drivers), F2FS, ISO 9660, UDF, HFS+.
const NUMBERED_BY_DEVICE: [u32; 9] = [
    0x5846_5342,
    0x4D44,
    0x2011_BAB0,
    0x5346_544E,
    0x7366_746E,
    0xF2F5_2010,
    0x9660,
    0x1501_3346,
    0x482B,
];

/// File systems whose inode numbers need not be the same after a mount, or once Linux has forgotten the file: FAT and exFAT
/// have none of their own, SMB and FUSE may have the server's or not.
const INODES_MADE_UP: [u32; 6] = [0x4D44, 0x2011_BAB0, 0x6573_5546, SMB[0], SMB[1], SMB[2]];

/// Where udev links every file system's own number to the device that it lies on.
const BY_UUID: &str = "/dev/disk/by-uuid";

/// Name of the file system, where it is one whose changes by other machines give no events here.
#[must_use]
pub fn network_name(path: &Path) -> Option<&'static str> {
    named(rustix::fs::statfs(path).ok()?.f_type as u32)
}

fn named(kind: u32) -> Option<&'static str> {
    NETWORK.iter().find(|(magic, _)| *magic == kind).map(|(_, name)| *name)
}

/// What a watched folder is, as far as the system tells: another thing mounted in its place, or nothing mounted any more,
/// is another identity. Device numbers change with every mount of a share, so they count only while the daemon runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootIdentity {
    device: u64,
    /// Kind and number of the file system, and the folder's inode: the same after a restart or a remount.
    pub lasting: String,
    /// Name of the file system where it is a network's, as of [`network_name`].
    pub network: Option<&'static str>,
}

/// The identity of the folder at `root`.
///
/// # Errors
/// The system's; `NotADirectory` where it is none.
pub fn root_identity(root: &Path) -> io::Result<RootIdentity> {
    let meta = fs::metadata(root)?;
    if !meta.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    // A folder that may not be read is as good as none.
    fs::read_dir(root)?;
    let kind = rustix::fs::statfs(root)?.f_type as u32;
    let number =
        lasting_number(kind, rustix::fs::statvfs(root)?.f_fsid, meta.dev(), Path::new(BY_UUID));
    let lasting = format!("{kind:x}:{number}:{}", meta.ino());
    Ok(RootIdentity { device: meta.dev(), lasting, network: named(kind) })
}

/// What stays of the number `id` that Linux gives a file system of this kind on `device`, when it is mounted again.
fn lasting_number(kind: u32, id: u64, device: u64, by_uuid: &Path) -> String {
    if SMB.contains(&kind) {
        // The upper half is the time at which the volume was made, and Samba says another one at every mount.
        return format!("{:x}", id as u32);
    }
    let uuid = NUMBERED_BY_DEVICE.contains(&kind).then(|| uuid(device, by_uuid)).flatten();
    uuid.unwrap_or_else(|| format!("{id:x}"))
}

/// The number of the file system on `device` itself, as far as `by_uuid` has a link to that device.
fn uuid(device: u64, by_uuid: &Path) -> Option<String> {
    fs::read_dir(by_uuid).ok()?.flatten().find_map(|link| {
        let linked = fs::metadata(link.path()).ok()?;
        (linked.rdev() == device).then(|| link.file_name().to_string_lossy().into_owned())
    })
}

/// All of a [`RootIdentity::lasting`] but the inode.
fn file_system(lasting: &str) -> &str {
    lasting.rsplit_once(':').map_or(lasting, |it| it.0)
}

/// Whether an inode number on the file system of this [`RootIdentity::lasting`] says that a file is the one that it was.
#[must_use]
pub fn keeps_inodes(lasting: &str) -> bool {
    let kind = lasting.split(':').next().and_then(|it| u32::from_str_radix(it, 16).ok());
    kind.is_none_or(|it| !INODES_MADE_UP.contains(&it))
}

/// Whether both [`RootIdentity::lasting`] are of one folder, as far as its file system tells.
#[must_use]
pub fn is_same_folder(one: &str, other: &str) -> bool {
    one == other || (!keeps_inodes(one) && file_system(one) == file_system(other))
}

/// What lies at `folder` in place of the output folder that was `root` ([`RootIdentity::lasting`]), a sentence; `None`
/// where it is that folder, or was removed from a file system that is still there. Network file systems need not keep
/// inode numbers, so of those the file system alone counts.
#[must_use]
pub fn replaced(folder: &Path, root: &str) -> Option<String> {
    let nearest = folder.ancestors().find(|it| fs::symlink_metadata(it).is_ok())?;
    let found = match root_identity(nearest) {
        Ok(found) => found.lasting,
        Err(error) => return Some(format!("{} cannot be read: {error}", nearest.display())),
    };
    let same_inode_counts = nearest == folder && network_name(nearest).is_none();
    let same = match same_inode_counts {
        true => is_same_folder(&found, root),
        false => file_system(&found) == file_system(root),
    };
    (!same).then(|| format!("{} is {found} now and was {root}", nearest.display()))
}

/// The identity of a watched folder that is there, with its marker where it has one.
///
/// # Errors
/// The system's; `NotFound` with a sentence where the marker is missing.
pub fn identify(watch: &Watch) -> io::Result<RootIdentity> {
    let identity = root_identity(&watch.path)?;
    match &watch.marker {
        Some(marker) if fs::symlink_metadata(watch.path.join(marker)).is_err() => {
            let message = format!("its marker {} is not there; is it mounted?", marker.display());
            Err(io::Error::new(io::ErrorKind::NotFound, message))
        }
        _ => Ok(identity),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_keeps_its_identity_and_another_in_its_place_has_its_own() {
        let place = tempfile::tempdir().unwrap();
        let (root, other) = (place.path().join("in"), place.path().join("other"));
        fs::create_dir(&root).unwrap();
        fs::create_dir(&other).unwrap();
        let before = root_identity(&root).unwrap();
        fs::write(root.join("a.mp4"), "x").unwrap();
        assert_eq!(root_identity(&root).unwrap(), before);
        fs::rename(&root, place.path().join("away")).unwrap();
        fs::rename(&other, &root).unwrap();
        assert_ne!(root_identity(&root).unwrap().lasting, before.lasting);
    }

    /// W13. The numbers as Linux gives them (linux/magic.h and the file systems' own headers).
    #[test]
    fn file_systems_of_networks_are_told_by_their_numbers() {
        for (kind, name) in [
            (0x6969, "NFS"),
            (0xff53_4d42, "CIFS"),
            (0xfe53_4d42, "SMB2"),
            (0x517b, "SMB"),
            (0x6573_5546, "FUSE"),
            (0x0102_1997, "9p"),
            (0x00c3_6400, "Ceph"),
            (0x5346_414f, "AFS"),
            (0x0187, "autofs"),
        ] {
            assert_eq!(named(kind), Some(name), "{kind:x}");
        }
        // ext4, XFS, Btrfs, tmpfs, overlayfs, exFAT, FAT, ZFS
        for kind in [
            0xef53,
            0x5846_5342,
            0x9123_683e,
            0x0102_1994,
            0x794c_7630,
            0x2011_bab0,
            0x4d44,
            0x2fc1_2fc1,
        ] {
            assert_eq!(named(kind), None, "{kind:x}");
        }
        // What statfs says of a real one.
        assert_eq!(network_name(Path::new("/proc")), None);
        assert_eq!(network_name(Path::new("/nonexistent")), None);
    }

    /// The numbers are those of one share that Samba served, before and after a mount.
    #[test]
    fn a_share_that_is_mounted_again_is_the_same() {
        let none = Path::new("/nonexistent");
        let first = lasting_number(0xfe53_4d42, 0x6ccb_1052_75f3_7944, 40, none);
        assert_eq!(first, lasting_number(0xfe53_4d42, 0x6f38_08c8_75f3_7944, 41, none));
        assert_ne!(first, lasting_number(0xfe53_4d42, 0x6f38_08c8_75f3_7945, 41, none));
    }

    #[test]
    fn a_disk_that_comes_back_as_another_device_is_the_same() {
        let place = tempfile::tempdir().unwrap();
        let link = place.path().join("5E2A-77F0");
        let (null, zero) = (Path::new("/dev/null"), Path::new("/dev/zero"));
        let number = |kind, id, device: &Path| {
            lasting_number(kind, id, fs::metadata(device).unwrap().rdev(), place.path())
        };
        std::os::unix::fs::symlink(null, &link).unwrap();
        assert_eq!(number(0x2011_bab0, 0x103, null), "5E2A-77F0");
        assert_eq!(number(0x2011_bab0, 0x105, zero), "105");
        // ext4's number is its own.
        assert_eq!(number(0xef53, 0x103, null), "103");
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(zero, &link).unwrap();
        assert_eq!(number(0x2011_bab0, 0x105, zero), "5E2A-77F0");
    }

    /// W16. Linux numbers the files of these kinds anew at every mount.
    #[test]
    fn where_inodes_do_not_last_the_file_system_tells_a_folder() {
        for kind in ["4d44", "2011bab0", "65735546", "fe534d42"] {
            assert!(is_same_folder(&format!("{kind}:5E2A:7"), &format!("{kind}:5E2A:9")), "{kind}");
            assert!(
                !is_same_folder(&format!("{kind}:5E2A:7"), &format!("{kind}:5E2B:7")),
                "{kind}"
            );
        }
        for kind in ["ef53", "6969", "58465342"] {
            assert!(keeps_inodes(&format!("{kind}:5E2A:7")));
            assert!(
                !is_same_folder(&format!("{kind}:5E2A:7"), &format!("{kind}:5E2A:9")),
                "{kind}"
            );
        }
        assert!(!is_same_folder("4d44:5E2A:7", "2011bab0:5E2A:7"));
        assert!(is_same_folder("ef53:1:2", "ef53:1:2") && keeps_inodes(""));
    }

    #[test]
    fn what_is_no_folder_has_no_identity() {
        assert!(root_identity(Path::new("/nonexistent/in")).is_err());
        assert!(root_identity(Path::new("/dev/null")).is_err());
    }
}
