//! Runs a test again in a process of its own with other rights or mounts, since a test program has only one of each.

use std::process::Command;

use crate::place::skip;

/// Set in the process that runs the test itself.
const INSIDE: &str = "SLOMOD_TEST_INSIDE";

/// A program that gives another what the test needs.
pub struct Wrapper {
    pub program: &'static str,
    pub arguments: &'static [&'static str],
    /// Succeeds within the wrapper only.
    pub proof: &'static str,
}

/// Its own mounts, as root or as a user who may make namespaces.
pub const MOUNTS: Wrapper = Wrapper {
    program: "unshare",
    arguments: &["--user", "--map-root-user", "--mount"],
    proof: "mount -t tmpfs -o size=64k none /tmp && mount -o remount,ro /tmp && ! touch /tmp/a",
};

/// Without root's right to read and write whatever it likes.
pub const RIGHTS: Wrapper = Wrapper {
    program: "setpriv",
    arguments: &["--bounding-set=-dac_override,-dac_read_search"],
    proof: "f=$(mktemp) && chmod 0 $f && ! cat $f; code=$?; rm -f $f; exit $code",
};

impl Wrapper {
    fn command(&self) -> Command {
        // A user without root's rights needs nothing taken away.
        let proven = |command: &mut Command| command.output().is_ok_and(|it| it.status.success());
        if self.program == "setpriv" && proven(Command::new("sh").args(["-c", self.proof])) {
            return Command::new("env");
        }
        let mut command = Command::new(self.program);
        command.args(self.arguments);
        command
    }

    fn works(&self) -> bool {
        let mut command = self.command();
        command.args(["sh", "-c", self.proof]);
        command.output().is_ok_and(|it| it.status.success())
    }
}

/// Whether the caller, the test named `test`, is inside of `wrapper`. Where it is not, it runs there and has passed when this
/// returns, or is skipped where the system does not allow it.
pub fn inside(wrapper: &Wrapper, test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    if !wrapper.works() {
        skip(&format!("`{}` is not allowed here", wrapper.program));
        return false;
    }
    let output = wrapper
        .command()
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    println!("{said}");
    false
}
