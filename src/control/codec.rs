//! Numbers and strings in messages: little-endian, strings with a 32-bit length before them.

/// A message that doesn't say what its kind has to say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It ends too early.
    #[error("message ends before its {what}: {left} bytes left, {needed} needed")]
    Short {
        /// What should be there.
        what: &'static str,
        /// Bytes left.
        left: usize,
        /// Bytes needed.
        needed: usize,
    },
    /// A number that has to have another value.
    #[error("{what} is {got:#x}, expected {expected}")]
    Value {
        /// Which number.
        what: &'static str,
        /// Its value.
        got: u64,
        /// What may be there.
        expected: &'static str,
    },
    /// Text that is not UTF-8.
    #[error("{what} is not UTF-8")]
    Text {
        /// Which text.
        what: &'static str,
    },
}

/// Reads a message from its start.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes }
    }

    pub fn left(&self) -> usize {
        self.bytes.len()
    }

    pub fn bytes(&mut self, what: &'static str, len: usize) -> Result<&'a [u8], Malformed> {
        let Some((head, tail)) = self.bytes.split_at_checked(len) else {
            return Err(Malformed::Short { what, left: self.bytes.len(), needed: len });
        };
        self.bytes = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Malformed> {
        let bytes = self.bytes(what, N)?;
        Ok(bytes.try_into().expect("N bytes were taken"))
    }

    pub fn u16(&mut self, what: &'static str) -> Result<u16, Malformed> {
        self.array(what).map(u16::from_le_bytes)
    }

    pub fn u32(&mut self, what: &'static str) -> Result<u32, Malformed> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub fn u64(&mut self, what: &'static str) -> Result<u64, Malformed> {
        self.array(what).map(u64::from_le_bytes)
    }

    pub fn text(&mut self, what: &'static str) -> Result<String, Malformed> {
        let len = self.u32(what)? as usize;
        let bytes = self.bytes(what, len)?;
        Ok(std::str::from_utf8(bytes).map_err(|_| Malformed::Text { what })?.to_owned())
    }
}

/// Writes a message.
#[derive(Default)]
pub(crate) struct Writer {
    pub bytes: Vec<u8>,
}

impl Writer {
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes.extend(value.to_le_bytes());
        self
    }

    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes.extend(value.to_le_bytes());
        self
    }

    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes.extend(value.to_le_bytes());
        self
    }

    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend(bytes);
        self
    }

    pub fn text(&mut self, text: &str) -> &mut Self {
        self.u32(text.len() as u32).raw(text.as_bytes())
    }
}
