//! Files with a shared secret: read with care, never shown.

use std::fmt;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The longest secret, in bytes.
const SECRET_LENGTH_MAX: u64 = 4096;

/// A shared secret; never shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// The bytes, for the one who proves that he knows them.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Why a secret could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file can't be read.
    #[error("the shared secret {} can't be read: {source}; put the same secret there on both nodes, for repd alone to read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is empty.
    #[error("the shared secret {} is empty; put a long random text into it, the same on both nodes", .0.display())]
    Empty(PathBuf),
    /// It is too long.
    #[error("the shared secret {} is longer than {SECRET_LENGTH_MAX} bytes; a line of 44 characters is enough", .0.display())]
    TooLong(PathBuf),
}

/// Reads a secret; the line break at its end doesn't count. Also tells when others can read the file.
pub fn read_secret(path: &Path) -> Result<(Secret, Option<String>), SecretError> {
    let unreadable = |source| SecretError::Unreadable { path: path.to_owned(), source };
    let file = super::source::open_regular(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode();
    let mut bytes = Vec::new();
    file.take(SECRET_LENGTH_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > SECRET_LENGTH_MAX {
        return Err(SecretError::TooLong(path.to_owned()));
    }
    let length = bytes.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r')).map_or(0, |last| last + 1);
    bytes.truncate(length);
    if bytes.is_empty() {
        return Err(SecretError::Empty(path.to_owned()));
    }
    let warning = (mode & 0o077 != 0)
        .then(|| format!("the shared secret {0} can be read by others; run 'chmod 600 {0}'", path.display()));
    Ok((Secret(bytes), warning))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret_file(content: &[u8], mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    #[test]
    fn a_private_secret_is_read_and_not_shown() {
        let file = secret_file(b"hush\n", 0o600);
        let (secret, warning) = read_secret(file.path()).unwrap();
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        assert_eq!(secret.into_bytes(), b"hush");
        assert!(warning.is_none());
    }

    #[test]
    fn a_readable_secret_warns_and_an_empty_one_is_refused() {
        let file = secret_file(b"hush", 0o644);
        assert!(read_secret(file.path()).unwrap().1.unwrap().contains("chmod 600"));
        assert!(matches!(read_secret(secret_file(b"\r\n", 0o600).path()), Err(SecretError::Empty(_))));
        assert!(matches!(read_secret(secret_file(&[b'x'; 5000], 0o600).path()), Err(SecretError::TooLong(_))));
        assert!(matches!(read_secret(Path::new("/nonexistent")), Err(SecretError::Unreadable { .. })));
    }
}
