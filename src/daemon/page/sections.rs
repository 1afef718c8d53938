//! The sections behind the head of the page: each has a magic number, words, and the sequence number at its end.
//! A page of an earlier version has only the first ones.

/// Error of a section that was written while it was read.
#[derive(Debug)]
pub(super) struct Torn;

/// Appends a section.
pub(super) fn write(page: &mut Vec<u64>, magic: u64, section: impl IntoIterator<Item = u64>, sequence: u64) {
    page.push(magic);
    page.extend(section);
    page.push(sequence);
}

/// The sections of a page with this sequence number, in their order.
pub(super) struct Sections<'a> {
    words: &'a [u64],
    sequence: u64,
}

impl<'a> Sections<'a> {
    /// The sections that these words begin with. The remains of a longer page may follow them.
    pub fn new(words: &'a [u64], sequence: u64) -> Self {
        Self { words, sequence }
    }

    /// The words of the next section, whose number `len` tells from its beginning. None if it doesn't have this magic
    /// number: then the page ends here.
    ///
    /// # Errors
    /// A concurrent write.
    pub fn next(
        &mut self,
        magic: u64,
        len: impl FnOnce(&[u64]) -> Option<usize>,
    ) -> Result<Option<&'a [u64]>, Torn> {
        let words = std::mem::take(&mut self.words);
        let Some((_, rest)) = words.split_first().filter(|(first, _)| **first == magic) else {
            return Ok(None);
        };
        let (section, rest) = len(rest).and_then(|len| rest.split_at_checked(len)).ok_or(Torn)?;
        let (_, rest) = rest.split_first().filter(|(end, _)| **end == self.sequence).ok_or(Torn)?;
        self.words = rest;
        Ok(Some(section))
    }
}
