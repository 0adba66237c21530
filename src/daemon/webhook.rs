//! Reports by HTTP and HTTPS. A server is trusted where the system trusts its certificate, and nothing is sent elsewhere.

use std::sync::Arc;
use std::time::Duration;

use rustls::CertificateError;
use rustls::crypto::ring;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};

use crate::daemon::after::EndedJob;

/// Posts the report to `url`.
///
/// # Errors
/// A sentence: what did not work, or what the server answered but success.
pub(super) async fn post(url: String, limit: Duration, job: &EndedJob) -> Result<(), String> {
    let (text, number, state) = (job.text.clone(), job.row.job, job.row.state.clone());
    let work = move || -> Result<(), String> {
        let mut config =
            ureq::Agent::config_builder().timeout_global(Some(limit)).max_redirects(0).proxy(None);
        if is_secure(&url) {
            config = config.tls_config(trust()?);
        }
        let request = ureq::Agent::new_with_config(config.build())
            .post(&url)
            .header("Content-Type", "application/json")
            .header("X-Slomod-Job", number.to_string())
            .header("X-Slomod-State", state);
        let response = request.send(&text[..]).map_err(|error| explain(&error))?;
        let status = response.status();
        if status.is_success() { Ok(()) } else { Err(format!("it answered {status}")) }
    };
    tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?
}

fn is_secure(url: &str) -> bool {
    url.get(..6).is_some_and(|it| it.eq_ignore_ascii_case("https:"))
}

/// Whom the system trusts. Read for each call, as certificates come and go while the daemon runs.
fn trust() -> Result<TlsConfig, String> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let why = found.errors.first().map_or(String::new(), |error| format!(" ({error})"));
        return Err(format!(
            "the system trusts no certificates{why}: install the package ca-certificates"
        ));
    }
    let roots: Vec<_> = found.certs.iter().map(|it| Certificate::from_der(it).to_owned()).collect();
    Ok(TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .build())
}

fn explain(error: &ureq::Error) -> String {
    let tls = match error {
        ureq::Error::Rustls(error) => Some(error),
        ureq::Error::Io(error) => error.get_ref().and_then(|it| it.downcast_ref()),
        _ => None,
    };
    match tls {
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "the system does not trust its certificate: put that of its authority to \
             /usr/local/share/ca-certificates/NAME.crt and run update-ca-certificates"
                .into()
        }
        Some(rustls::Error::InvalidCertificate(why)) => {
            format!("its certificate is not accepted: {why}")
        }
        _ => error.to_string(),
    }
}
