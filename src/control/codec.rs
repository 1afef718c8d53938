//! Encoding of numbers and texts in messages: little-endian, texts with a 32-bit length before them.

/// Why a message can't be decoded.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Malformed {
    /// The message ends too early.
    #[error("message ends before its {what}: {left} bytes left, {needed} needed")]
    Short {
        /// The missing field.
        what: &'static str,
        /// Bytes left in the message.
        left: usize,
        /// Bytes that the field needs.
        needed: usize,
    },
    /// A number has a value that is not allowed.
    #[error("{what} is {got:#x}, expected {expected}")]
    Value {
        /// Name of the field.
        what: &'static str,
        /// Value of the field.
        got: u64,
        /// The allowed values.
        expected: &'static str,
    },
    /// A number is infinite, not a number, or too small.
    #[error("{what} is {got:?}, expected a finite number of {least:?} or more")]
    Number {
        /// Name of the field.
        what: &'static str,
        /// Value of the field.
        got: f32,
        /// The smallest allowed value.
        least: f32,
    },
    /// A text in the message is not UTF-8.
    #[error("{what} is not UTF-8")]
    Text {
        /// Name of the field.
        what: &'static str,
    },
}

/// Decodes a message front to back.
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

    /// A finite number of at least `least`.
    pub fn f32(&mut self, what: &'static str, least: f32) -> Result<f32, Malformed> {
        let value = f32::from_bits(self.u32(what)?);
        match value.is_finite() && value >= least {
            true => Ok(value),
            false => Err(Malformed::Number { what, got: value, least }),
        }
    }

    pub fn text(&mut self, what: &'static str) -> Result<String, Malformed> {
        let len = self.u32(what)? as usize;
        let bytes = self.bytes(what, len)?;
        Ok(std::str::from_utf8(bytes).map_err(|_| Malformed::Text { what })?.to_owned())
    }
}

/// Encodes a message front to back.
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

    pub fn f32(&mut self, value: f32) -> &mut Self {
        self.u32(value.to_bits())
    }

    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend(bytes);
        self
    }

    pub fn text(&mut self, text: &str) -> &mut Self {
        self.u32(text.len() as u32).raw(text.as_bytes())
    }
}
