//! What systemd must be told about the folders and addresses of a configuration: the text of a drop-in for the unit.
//!
//! The unit shows the service everything read-only (`ProtectSystem=strict`), no homes, no `/tmp` of others, and no network.
//! A folder of a local file system is opened by its own path. A share is opened by its mount point, and so is what is mounted
//! where removable disks are: a path below it would keep the service at what was mounted when it started, also after it was
//! mounted anew, and a card busy after it was unmounted.
//!
//! None of what is mounted is insisted on but the state folder: the service must start without a disk that is away, and must not
//! be stopped with one that is pulled.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use ureq::http::Uri;

use crate::config::apart;
use crate::config::file::{Config, HookTarget, OnSuccess};

/// The state folder that the unit provides (`StateDirectory=`).
const STATE_OF_UNIT: &str = "/var/lib/slomod";
/// What the unit provides for sockets (`RuntimeDirectory=`).
const RUNTIME_OF_UNIT: &str = "/run/slomod";
/// Words of `IPAddressAllow=`.
const LOOPBACK: &str = "localhost";
const ANY_ADDRESS: &str = "any";
/// What `systemd-analyze security` gives the unit with a network; without one it is 0.7.
const EXPOSURE_WITH_NETWORK: &str = "1.4 to 1.5";
/// What `ProtectHome=` hides.
const HOMES: [&str; 3] = ["/home", "/root", "/run/user"];
/// What `PrivateTmp=` hides.
const TEMPORARY: [&str; 2] = ["/tmp", "/var/tmp"];
/// Where removable disks are mounted.
const REMOVABLE: [&str; 3] = ["/media", "/mnt", "/run/media"];
/// Types of file systems that other machines serve, as the kernel names them; `fuse.` and more is one, too.
const SHARES: [&str; 12] = [
    "nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "afs", "coda", "autofs", "virtiofs", "lustre",
    "fuse",
];

/// A path that no unit file can hold.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: a unit file cannot hold this path (it has a control character, a backslash, or both kinds of quotes): \
         use a folder with another name", .0.display())]
pub struct Unwritable(pub PathBuf);

/// Mount points and types of what is mounted, in the order of mounting.
#[derive(Clone, Debug, Default)]
pub struct Mounts(Vec<(PathBuf, String)>);

impl Mounts {
    /// Those that this process sees; none where the kernel does not say.
    #[must_use]
    pub fn of_this_process() -> Self {
        Self::parse(&std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
    }

    /// Reads the text of `/proc/self/mountinfo` (see `proc_pid_mountinfo(5)`).
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mount = |line: &str| {
            let (before, after) = line.split_once(" - ")?;
            let point = unescape_octal(before.split(' ').nth(4)?);
            Some((point, after.split(' ').next()?.to_owned()))
        };
        Self(text.lines().filter_map(mount).collect())
    }

    /// What `path` lies on; `None` on the root's file system, and in memory.
    fn mount_of(&self, path: &Path) -> Option<Mount<'_>> {
        let covering = self.0.iter().filter(|(point, _)| path.starts_with(point));
        // Of those with equally many parts the last one lies on top.
        let (point, kind) = covering.max_by_key(|(point, _)| point.components().count())?;
        let is_share = SHARES.contains(&kind.as_str()) || kind.starts_with("fuse.");
        let is_disk = point != Path::new("/") && kind != "tmpfs";
        (is_share || is_disk).then_some(Mount { point, is_share })
    }
}

/// Something mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mount<'a> {
    point: &'a Path,
    /// Whether another machine serves it.
    is_share: bool,
}

/// `\040` and the like, as the kernel writes spaces, tabs, newlines and backslashes.
fn unescape_octal(text: &str) -> PathBuf {
    let (bytes, mut plain, mut at) = (text.as_bytes(), Vec::new(), 0);
    while let Some(&byte) = bytes.get(at) {
        let digits = bytes.get(at + 1..at + 4).filter(|_| byte == b'\\');
        let digits = digits.and_then(|it| std::str::from_utf8(it).ok());
        match digits.and_then(|it| u8::from_str_radix(it, 8).ok()) {
            Some(value) => {
                plain.push(value);
                at += 4;
            }
            None => {
                plain.push(byte);
                at += 1;
            }
        }
    }
    std::ffi::OsString::from_vec(plain).into()
}

/// What the service does with a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// Reads one file.
    Opens,
    /// Reads what lies in a folder.
    Reads,
    /// Writes into a folder.
    Writes,
}

/// What goes into the drop-in: each set becomes lines of one kind.
#[derive(Default)]
struct Needs {
    /// Without it the service cannot start.
    required_mount: Option<String>,
    wanted_mounts: BTreeSet<String>,
    read_write: BTreeSet<String>,
    read_only: BTreeSet<String>,
    bound: BTreeSet<String>,
    bound_read_only: BTreeSet<String>,
    homes: Homes,
    /// Addresses to be reached, as `IPAddressAllow=` takes them.
    addresses: BTreeSet<String>,
    remarks: BTreeSet<String>,
}

/// Whether folders in homes are used.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Homes {
    #[default]
    Unused,
    Used,
}

impl Needs {
    fn add(&mut self, path: &Path, purpose: Use, mounts: &Mounts) -> Result<(), Unwritable> {
        let is_below = |path: &Path, tops: &[&str]| tops.iter().any(|top| path.starts_with(top));
        // What systemd opens and hides is where links lead; a link that is itself hidden it cannot follow.
        let followed = match is_below(path, &HOMES) || is_below(path, &TEMPORARY) {
            true => path.to_owned(),
            false => apart::resolved(path),
        };
        let path = followed.as_path();
        let value = value(path)?;
        let optional = optional(&value);
        let below = |tops: &[&str]| is_below(path, tops);
        let is_hidden = below(&HOMES) || below(&TEMPORARY);
        if below(&HOMES) {
            self.homes = Homes::Used;
        }
        if below(&TEMPORARY) {
            self.remarks
                .insert(format!("# {}: what lies there is removed at times.", path.display()));
        }
        let what = match path.try_exists() {
            Ok(true) => None,
            Ok(false) => {
                Some("is not there: make it (or mount it) before the service starts.".into())
            }
            Err(error) => Some(format!(
                "cannot be looked at ({error}): run this as root to see whether it is there."
            )),
        };
        self.remarks.extend(what.map(|what: String| format!("# {} {what}", path.display())));
        let mount = mounts.mount_of(path);
        self.wanted_mounts.extend(mount.map(|it| mount_unit(it.point)));
        let whole = mount.filter(|it| it.is_share || below(&REMOVABLE)).map(|it| it.point);
        match (purpose, is_hidden, whole) {
            (Use::Writes, true, _) => self.bound.insert(optional),
            (Use::Reads | Use::Opens, true, _) => self.bound_read_only.insert(optional),
            (Use::Writes, false, None) => self.read_write.insert(optional),
            (Use::Writes, false, Some(point)) => {
                self.read_write.insert(self::optional(&self::value(point)?))
            }
            (Use::Reads, false, None) => self.read_only.insert(optional),
            // All that is mounted is read-only already.
            (Use::Reads, false, Some(_)) | (Use::Opens, false, _) => true,
        };
        Ok(())
    }

    /// The control socket, the port of the metrics, and hooks.
    fn add_outside(&mut self, config: &Config, mounts: &Mounts) -> Result<(), Unwritable> {
        let provided = |it: &Path| it.starts_with(RUNTIME_OF_UNIT) || it.starts_with(STATE_OF_UNIT);
        let folder = config.daemon.control.as_deref().and_then(Path::parent);
        if let Some(folder) = folder.filter(|it| !provided(it)) {
            self.add(folder, Use::Writes, mounts)?;
        }
        if config.daemon.metrics.is_some() {
            self.addresses.insert(LOOPBACK.into());
        }
        for hook in &config.hooks {
            match &hook.target {
                HookTarget::Command(words) => {
                    let program = Path::new(words.first().map_or("/", String::as_str));
                    // Where it is not hidden from the service, it is not asked for.
                    if HOMES.iter().chain(&TEMPORARY).any(|top| program.starts_with(top)) {
                        self.add(program, Use::Opens, mounts)?;
                    }
                }
                HookTarget::Url(url) => self.reach(url),
            }
        }
        Ok(())
    }

    fn reach(&mut self, url: &str) {
        let uri = url.parse::<Uri>().unwrap_or_default();
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let allowed = match host.parse::<IpAddr>() {
            Ok(address) if address.is_loopback() => LOOPBACK.to_owned(),
            Ok(address) => address.to_string(),
            Err(_) if host == LOOPBACK => LOOPBACK.to_owned(),
            Err(_) => {
                self.remarks.insert(format!(
                    "# {host} goes by a name, and systemd knows addresses only: all are allowed, as those of name servers are \
                     needed, too."
                ));
                ANY_ADDRESS.to_owned()
            }
        };
        self.addresses.insert(allowed);
    }
}

/// The drop-in for `config`, which was read from `origin`. Folders are looked up to say which are not there.
///
/// # Errors
/// [`Unwritable`], where a path cannot be written into a unit file.
pub fn text(config: &Config, origin: &Path, mounts: &Mounts) -> Result<String, Unwritable> {
    let mut needs = Needs::default();
    if !config.daemon.state_dir.starts_with(STATE_OF_UNIT) {
        needs.add(&config.daemon.state_dir, Use::Writes, mounts)?;
        needs.required_mount = Some(value(&config.daemon.state_dir)?);
    }
    for watch in &config.watches {
        let purpose = if watch.on_success == OnSuccess::Keep { Use::Reads } else { Use::Writes };
        needs.add(&watch.path, purpose, mounts)?;
        needs.add(&watch.output, Use::Writes, mounts)?;
        if let OnSuccess::Move(originals) = &watch.on_success {
            needs.add(originals, Use::Writes, mounts)?;
        }
        for folder in &watch.links_to {
            needs.add(folder, Use::Reads, mounts)?;
        }
        if let Some(weights) = watch.settings.model.as_ref().filter(|it| it.is_absolute()) {
            needs.add(weights, Use::Opens, mounts)?;
        }
        let list = watch.settings.content.cut_list.as_ref();
        if let Some(list) = list.filter(|it| it.is_absolute()) {
            needs.add(list, Use::Opens, mounts)?;
        }
    }
    needs.add_outside(config, mounts)?;
    // What is written in one place may be read in another.
    needs.read_only = needs.read_only.difference(&needs.read_write).cloned().collect();
    needs.bound_read_only = needs.bound_read_only.difference(&needs.bound).cloned().collect();
    Ok(lines(&needs, origin).join("\n") + "\n")
}

fn lines(needs: &Needs, origin: &Path) -> Vec<String> {
    let origin = origin.display().to_string();
    let mut lines = vec![format!(
        "# slomod.service with what {} needs, printed by `slomod systemd-dropin`.",
        origin.escape_debug()
    )];
    lines.extend(needs.remarks.iter().map(|remark| remark.escape_debug().to_string()));
    let mut section = |name: &str, entries: Vec<String>| {
        if !entries.is_empty() {
            lines.extend([String::new(), format!("[{name}]")]);
            lines.extend(entries);
        }
    };
    let of = |key: &str, values: &BTreeSet<String>| {
        values.iter().map(|it| format!("{key}={it}")).collect::<Vec<_>>()
    };
    let required = needs.required_mount.iter().map(|it| format!("RequiresMountsFor={it}"));
    let mut unit: Vec<String> = required.collect();
    if !needs.wanted_mounts.is_empty() {
        unit.push(
            "# Shares and disks: slomod starts after them, and without them too. Their jobs then wait."
                .into(),
        );
        unit.extend(of("Wants", &needs.wanted_mounts));
        unit.extend(of("After", &needs.wanted_mounts));
    }
    section("Unit", unit);
    let mut service = of("ReadWritePaths", &needs.read_write);
    service.extend(of("ReadOnlyPaths", &needs.read_only));
    if needs.homes == Homes::Used {
        service.push("# Of all homes the service sees what is bound here.".into());
        service.push("ProtectHome=tmpfs".into());
    }
    service.extend(of("BindPaths", &needs.bound));
    service.extend(of("BindReadOnlyPaths", &needs.bound_read_only));
    if !needs.addresses.is_empty() {
        service.push(format!(
            "# For metrics and hooks: the service has no network otherwise. `systemd-analyze security` gives {EXPOSURE_WITH_NETWORK} with it."
        ));
        service.push("PrivateNetwork=no".into());
        service.push("RestrictAddressFamilies=AF_INET AF_INET6".into());
        service.extend(of("IPAddressAllow", &needs.addresses));
    }
    section("Service", service);
    lines
}

/// The service starts where the folder is not there: a share may come later.
fn optional(value: &str) -> String {
    match value.strip_prefix(['"', '\'']) {
        Some(rest) => format!("{}-{rest}", &value[..1]),
        None => format!("-{value}"),
    }
}

/// `path` as a word of a unit file: quoted where need be, `%` doubled.
fn value(path: &Path) -> Result<String, Unwritable> {
    let unwritable = || Unwritable(path.to_owned());
    let text = path.to_str().ok_or_else(unwritable)?.replace('%', "%%");
    let has = |wanted: char| text.contains(wanted);
    if text.chars().any(char::is_control) || has('\\') || (has('"') && has('\'')) {
        return Err(unwritable());
    }
    let is_plain = |c: char| !c.is_whitespace() && !['"', '\'', ':'].contains(&c);
    Ok(match (text.chars().all(is_plain), has('"')) {
        (true, _) => text,
        (false, false) => format!("\"{text}\""),
        (false, true) => format!("'{text}'"),
    })
}

/// Name of the unit of a mount point, as `systemd-escape --path --suffix=mount` makes it.
fn mount_unit(point: &Path) -> String {
    use std::fmt::Write as _;
    use std::os::unix::ffi::OsStrExt as _;
    let trimmed: PathBuf = point.components().skip(1).collect();
    let mut name = String::new();
    for (at, &byte) in trimmed.as_os_str().as_bytes().iter().enumerate() {
        match byte {
            b'/' => name.push('-'),
            b'.' if at == 0 => name.push_str("\\x2e"),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b':' | b'_' | b'.' => name.push(byte as char),
            _ => {
                // Writing to a string never fails.
                let _ = write!(name, "\\x{byte:02x}");
            }
        }
    }
    match name.as_str() {
        "" => "-.mount".into(),
        _ => name + ".mount",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_as_the_kernel_writes_them() {
        let text = "26 1 8:1 / / rw shared:1 - ext4 /dev/a rw\n\
                    40 26 0:40 / /mnt/my\\040nas rw shared:2 - cifs //nas/v rw\n\
                    41 40 0:41 / /mnt/my\\040nas/fast rw - ext4 /dev/b rw\n\
                    42 26 0:42 / /srv/auto rw - autofs systemd-1 rw\n\
                    43 42 0:43 / /srv/auto rw - nfs4 nas:/v rw\nrubbish\n";
        let mounts = Mounts::parse(text);
        let mount = |path: &str| mounts.mount_of(Path::new(path));
        let is = |point, is_share| Some(Mount { point: Path::new(point), is_share });
        assert_eq!(mount("/mnt/my nas/drop"), is("/mnt/my nas", true));
        assert_eq!(mount("/mnt/my nas/fast/drop"), is("/mnt/my nas/fast", false));
        assert_eq!(mount("/mnt/my"), None);
        assert_eq!(mount("/srv/auto/x"), is("/srv/auto", true));
        assert_eq!(Mounts::default().mount_of(Path::new("/a")), None);
    }

    /// S13. A share is opened by its mount point, and the service starts behind it and without it, too.
    #[test]
    fn shares_and_cards_are_opened_by_their_mount_points_and_not_insisted_on() {
        let mounts = Mounts::parse(
            "26 1 8:1 / / rw shared:1 - ext4 /dev/a rw\n\
             40 26 0:40 / /mnt/nas rw shared:2 - cifs //nas/video rw\n\
             41 26 0:41 / /home/kim/nfs rw shared:3 - nfs4 nas:/v rw\n\
             42 26 8:2 / /media/card rw shared:4 - exfat /dev/b rw\n\
             43 26 8:3 / /data rw shared:5 - ext4 /dev/c rw\n",
        );
        let config =
            |drop: &str, out: &str| format!("[[watch]]\npath = \"{drop}\"\noutput = \"{out}\"\n");
        let path = Path::new("slomod.toml");
        let dropin = |config: &str| {
            text(&crate::config::file::parse(path, config).unwrap(), path, &mounts).unwrap()
        };
        let said = dropin(&config("/mnt/nas/drop", "/mnt/nas/slow"));
        let lines: Vec<&str> = said.lines().filter(|it| it.contains('=')).collect();
        let expected = ["Wants=mnt-nas.mount", "After=mnt-nas.mount", "ReadWritePaths=-/mnt/nas"];
        assert_eq!(lines, expected, "{said}");
        let mixed = dropin(&config("/mnt/nas/drop", "/srv/slow"));
        for line in ["Wants=mnt-nas.mount", "ReadWritePaths=-/srv/slow"] {
            assert!(mixed.lines().any(|it| it == line), "no {line}\n{mixed}");
        }
        assert!(!mixed.contains("ReadWritePaths=-/mnt") && !mixed.contains("RequiresMountsFor"));
        let disks = dropin(&config("/media/card/DCIM", "/data/slow"));
        let lines: Vec<&str> = disks.lines().filter(|it| it.contains('=')).collect();
        let expected = [
            "Wants=data.mount",
            "Wants=media-card.mount",
            "After=data.mount",
            "After=media-card.mount",
            "ReadWritePaths=-/data/slow",
        ];
        assert_eq!(lines, expected, "{disks}");
        let card = dropin(&config("/srv/drop", "/media/card/slow"));
        assert!(card.lines().any(|it| it == "ReadWritePaths=-/media/card"), "{card}");
        let home = dropin(&config("/home/kim/nfs/drop", "/home/kim/nfs/slow"));
        for line in
            ["Wants=home-kim-nfs.mount", "BindPaths=-/home/kim/nfs/slow", "ProtectHome=tmpfs"]
        {
            assert!(home.lines().any(|it| it == line), "no {line}\n{home}");
        }
    }

    #[test]
    fn paths_are_quoted_as_unit_files_want_it() {
        let value = |path: &str| value(Path::new(path)).map(|it| optional(&it));
        assert_eq!(value("/srv/설정").unwrap(), "-/srv/설정");
        assert_eq!(value("/srv/my 100%").unwrap(), "\"-/srv/my 100%%\"");
        assert_eq!(value("/srv/12\"").unwrap(), "'-/srv/12\"'");
        for path in ["/a\nb", "/a\\b", "/a\"'b"] {
            assert_eq!(value(path), Err(Unwritable(path.into())));
        }
    }

    #[test]
    fn units_of_mount_points_have_systemds_names() {
        for (point, name) in [
            ("/", "-.mount"),
            ("/mnt/nas", "mnt-nas.mount"),
            ("/mnt/my nas-1", "mnt-my\\x20nas\\x2d1.mount"),
            ("/.mnt/a.b:_", "\\x2emnt-a.b:_.mount"),
            ("/영상", "\\xec\\x98\\x81\\xec\\x83\\x81.mount"),
        ] {
            assert_eq!(mount_unit(Path::new(point)), name);
            let run = std::process::Command::new("systemd-escape")
                .args(["--path", "--suffix=mount", point])
                .output();
            if let Ok(output) = run {
                assert_eq!(String::from_utf8(output.stdout).unwrap().trim_end(), name);
            }
        }
    }
}
