//! Files that are replaced as a whole.

use std::path::Path;

/// Replaces a file's content atomically; on an error the previous content stays.
pub(super) fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let draft = path.with_extension("new");
    std::fs::write(&draft, text)?;
    std::fs::rename(&draft, path)
}
