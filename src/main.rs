//! The `slomod` command.

fn main() -> std::process::ExitCode {
    slomod::cli::run()
}
