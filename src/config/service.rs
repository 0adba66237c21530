//! Raw file → [`Config`](crate::config::file::Config): what concerns the running service, not clips.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use ureq::http::Uri;

use crate::config::check::{Checked, Problem, absolute, duration, wrong};
use crate::config::file::{Hook, HookState, HookTarget};
use crate::config::raw::RawHook;

/// How long a hook may take where the file does not say.
const HOOK_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest path of a control socket: Linux takes 107 bytes, and the socket gets its name from one that begins with a dot and
/// ends in `.tmp`.
pub const CONTROL_MAX_BYTES: usize = 102;

/// Checks the path of the control socket; `None` is the usual one.
pub fn control(text: &Spanned<String>) -> Checked<Option<PathBuf>> {
    if text.get_ref() == "auto" {
        return Ok(None);
    }
    let path = absolute("control", text)?;
    let bytes = path.as_os_str().len();
    if bytes > CONTROL_MAX_BYTES {
        let message = format!(
            "`control` has {bytes} bytes, which no socket's path may have: use at most {CONTROL_MAX_BYTES}"
        );
        return wrong(text, message);
    }
    Ok(Some(path))
}

/// Checks the address of the metrics: `off`, or one that only this machine can reach.
pub fn metrics(text: &Spanned<String>) -> Checked<Option<SocketAddr>> {
    let found = text.get_ref();
    match found.parse::<SocketAddr>() {
        _ if found == "off" => Ok(None),
        Ok(address) if address.ip().is_loopback() && address.port() > 0 => Ok(Some(address)),
        _ => {
            let advice = "use off, or a port of this machine alone, as 127.0.0.1:9464";
            wrong(text, format!("`metrics` is `{found}`: {advice}"))
        }
    }
}

/// Checks one hook.
pub fn hook(raw: &Spanned<RawHook>) -> Checked<Hook> {
    let hook = raw.get_ref();
    let target = match (&hook.command, &hook.url) {
        (Some(words), None) => command(words)?,
        (None, Some(text)) => url(text)?,
        (Some(_), Some(text)) => {
            return wrong(text, "a hook has `command` or `url`, not both: write two".into());
        }
        (None, None) => {
            let message = "a hook needs `command` or `url`".into();
            return Err(Problem { offset: raw.span().start, message });
        }
    };
    let on = match &hook.on {
        None => vec![HookState::Done, HookState::Failed, HookState::Refused],
        Some(list) if list.get_ref().is_empty() => {
            return wrong(list, "`on` is empty: name done, failed or refused".into());
        }
        Some(list) => list.get_ref().clone(),
    };
    let timeout =
        hook.timeout.as_ref().map_or(Ok(HOOK_TIMEOUT), |text| duration("timeout", text))?;
    Ok(Hook { target, on, timeout })
}

fn command(words: &Spanned<Vec<String>>) -> Checked<HookTarget> {
    let program = words.get_ref().first().map_or("", String::as_str);
    if !Path::new(program).is_absolute() {
        let message = format!("`command` begins with `{program}`: use the program's absolute path");
        return wrong(words, message);
    }
    if words.get_ref().iter().any(|word| word.contains('\0')) {
        return wrong(words, "`command` holds a NUL character".into());
    }
    Ok(HookTarget::Command(words.get_ref().clone()))
}

fn url(text: &Spanned<String>) -> Checked<HookTarget> {
    let found = text.get_ref();
    let uri = found.parse::<Uri>().ok();
    let is_http = |it: &Uri| matches!(it.scheme_str(), Some("http" | "https"));
    match uri.filter(|it| is_http(it) && it.host().is_some()) {
        Some(_) => Ok(HookTarget::Url(found.clone())),
        None => {
            let advice = "use http://host:port/path or https://host/path";
            wrong(text, format!("`url` is `{found}`: {advice}"))
        }
    }
}
