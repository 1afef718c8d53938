//! Text in two columns.

use std::fmt::{Display, Write};

/// Lines of `label  text`; consecutive lines with one label print it once.
#[derive(Default)]
pub struct Page {
    pub text: String,
}

impl Page {
    pub fn line(&mut self, label: &str, text: impl Display) {
        let _ = writeln!(self.text, "{label:<12}{text}");
    }

    pub fn blank(&mut self) {
        self.text.push('\n');
    }
}
