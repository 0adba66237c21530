//! The report as text.

use crate::report::Report;

/// Why a report cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A value has no place in JSON (a path that is not UTF-8 in the settings).
    #[error("the report cannot be written as JSON: {0}")]
    Unwritable(#[source] serde_json::Error),
    /// A number that must be there is NaN or infinite.
    #[error("the report holds a number that is not finite where one is required: {0}")]
    NotFinite(#[source] serde_json::Error),
}

impl Report {
    /// The report as indented JSON with a line feed at its end.
    ///
    /// **Invariant:** no NaN and no infinity ever. In an optional field such a number becomes `null`; where a number is
    /// required the report is refused, as its schema would refuse it.
    ///
    /// # Errors
    /// [`ReportError`].
    pub fn to_json(&self) -> Result<String, ReportError> {
        // JSON has no NaN: serde_json makes it null, and reading the value back finds a null that must not be one.
        let value = serde_json::to_value(self).map_err(ReportError::Unwritable)?;
        let _: Self = serde_json::from_value(value.clone()).map_err(ReportError::NotFinite)?;
        let mut text = serde_json::to_string_pretty(&value).map_err(ReportError::Unwritable)?;
        text.push('\n');
        Ok(text)
    }
}
