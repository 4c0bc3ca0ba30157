//! Files of environment variables, as container engines and service managers read them.
//!
//! Guarantees: a line that is neither empty, a comment nor `NAME=value` is refused with its number, and not quoted.

use holdfast_secret::SecretText;

/// A line that is not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is not of the form NAME=value; correct it, or put # in front")]
pub struct EnvironmentError {
    /// Which, counted from 1.
    pub line: usize,
}

/// Reads such a file: `NAME=value` lines, with or without `export`, the value with or without quotes around it.
///
/// # Errors
/// [`EnvironmentError`].
pub fn environment_file(text: &str) -> Result<Vec<(String, SecretText)>, EnvironmentError> {
    let mut variables = Vec::new();
    for (line, number) in text.lines().zip(1_usize..) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line.split_once('=').ok_or(EnvironmentError { line: number })?;
        let name = name.trim_end();
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Err(EnvironmentError { line: number });
        }
        let quoted = |quote: char| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
        let value = quoted('"').or_else(|| quoted('\'')).unwrap_or(value);
        variables.push((name.to_owned(), SecretText::new(value)));
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_read_and_nonsense_is_refused_without_a_quote() {
        let text = "# c\n\nWEB3SIGNER_HTTP_LISTEN_PORT=9\nexport A='b c'\nB=\"x=y\"\nC=\n";
        let read = environment_file(text).unwrap();
        let plain: Vec<(&str, &str)> = read.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
        assert_eq!(plain, [("WEB3SIGNER_HTTP_LISTEN_PORT", "9"), ("A", "b c"), ("B", "x=y"), ("C", "")]);
        for bad in ["A=1\nhunter2\n", "A=1\nhunter 2=x\n", "A=1\n=hunter2\n"] {
            let error = environment_file(bad).unwrap_err();
            assert_eq!(error, EnvironmentError { line: 2 });
            assert!(!error.to_string().contains("hunter"));
        }
    }
}
