//! The state as text (π0.5): the bins of its numbers, and the tokens of a prompt that tells them.
//!
//! `Task: {instruction}, State: {b0 b1 …};\nAction: `, as `processor_pi05.py` of lerobot and `tokenizer.py` of openpi
//! word it.

use super::error::PromptError;
use super::tokenizer::Tokenizer;

/// The greatest bin; the least is -1, for what lies below all.
const LAST: i16 = 255;
/// End of a prompt, after the numbers.
const END: &str = ";\nAction: ";
/// States in which every digit stands beside every neighbour that it can have, other digits left out.
const PROBES: [&[i16]; 2] = [&[-1, 102, 34, 56, 78, 99, LAST, -1, -1, 0], &[0, 67, 128, -1]];

/// The bin of a normalized number, -1 to 255: `np.digitize(value, np.linspace(-1, 1, 257)[:-1]) - 1`.
///
/// It is compared with the edges, which are exact in f64: `value + 1` is not.
pub fn bin(value: f64) -> i16 {
    let edge = |bin: i16| f64::from(bin) / 128.0 - 1.0;
    let near = ((value + 1.0) * 128.0).floor().clamp(-1.0, f64::from(LAST)) as i16;
    if near >= 0 && value < edge(near) {
        near - 1
    } else if near < LAST && value >= edge(near + 1) {
        near + 1
    } else {
        near
    }
}

/// Beginning of a prompt, before the numbers.
pub(super) fn head(instruction: &str) -> String {
    format!("Task: {instruction}, State: ")
}

/// A whole prompt as text.
pub(super) fn text(head: &str, bins: &[i16]) -> String {
    let numbers: Vec<String> = bins.iter().map(i16::to_string).collect();
    format!("{head}{}{END}", numbers.join(" "))
}

/// Token ids of the numbers and of what stands between and behind them, for a tokenizer whose digits merge with nothing
/// around them: then a prompt's tokens are those of its parts.
#[derive(Debug)]
pub(super) struct Pieces {
    digits: [Vec<u32>; 10],
    /// Between two numbers: before one that is not negative, and before a negative one.
    between: [Vec<u32>; 2],
    /// After the last number.
    end: Vec<u32>,
}

impl Pieces {
    /// The pieces of a tokenizer; `None` if its digits merge with their neighbours.
    pub fn of(tokenizer: &Tokenizer) -> Option<Self> {
        if !tokenizer.splits_at_digits() {
            return None;
        }
        let encode = |text: &str| tokenizer.encode(text).ok();
        let mut digits = [const { Vec::new() }; 10];
        for (digit, tokens) in digits.iter_mut().enumerate() {
            *tokens = encode(&digit.to_string())?;
        }
        Some(Self { digits, between: [encode(" ")?, encode(" -")?], end: encode(END)? })
    }

    /// Tokens of a prompt from the beginning-of-sequence token to the first digit: before a number that is not
    /// negative, and before a negative one. `None` if the pieces don't give the tokens of the whole text.
    pub fn heads(&self, tokenizer: &Tokenizer, head: &str) -> Result<Option<[Vec<u32>; 2]>, PromptError> {
        let begin = |text: &str| -> Result<Vec<u32>, PromptError> {
            Ok([tokenizer.bos()].into_iter().chain(tokenizer.encode(text)?).collect())
        };
        let heads = [begin(head)?, begin(&format!("{head}-"))?];
        for bins in PROBES {
            let mut tokens = Vec::new();
            self.write([&heads[0], &heads[1]], bins, &mut |piece| tokens.extend_from_slice(piece));
            if tokens != begin(&text(head, bins))? {
                return Ok(None);
            }
        }
        Ok(Some(heads))
    }

    /// The tokens of a prompt, piece by piece. Allocates nothing.
    pub fn write(&self, heads: [&[u32]; 2], bins: &[i16], put: &mut impl FnMut(&[u32])) {
        for (i, &bin) in bins.iter().enumerate() {
            let negative = usize::from(bin < 0);
            put(if i == 0 { heads[negative] } else { &self.between[negative] });
            self.number(bin, put);
        }
        put(&self.end);
    }

    fn number(&self, bin: i16, put: &mut impl FnMut(&[u32])) {
        let value = usize::from(bin.unsigned_abs());
        for place in [100, 10] {
            if value >= place {
                put(&self.digits[value / place % 10]);
            }
        }
        put(&self.digits[value % 10]);
    }

    /// Least and greatest number of tokens of a prompt with `numbers` numbers.
    pub fn lengths(&self, heads: [&[u32]; 2], numbers: usize) -> (usize, usize) {
        let length = |starts: [usize; 2], bin: i16| {
            let mut length = starts[usize::from(bin < 0)];
            self.number(bin, &mut |piece| length += piece.len());
            length
        };
        let range = |starts: [usize; 2]| {
            let all = || (-1..=LAST).map(|bin| length(starts, bin));
            (all().min().unwrap_or(0), all().max().unwrap_or(0))
        };
        let first = range(heads.map(<[u32]>::len));
        let other = range([self.between[0].len(), self.between[1].len()]);
        let rest = numbers.saturating_sub(1);
        (first.0 + rest * other.0 + self.end.len(), first.1 + rest * other.1 + self.end.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_begin_at_their_edges() {
        for k in 0..=255i16 {
            let edge = f64::from(k) / 128.0 - 1.0;
            assert_eq!(bin(edge), k);
            assert_eq!(bin(edge.next_down()), k - 1, "just below bin {k}");
            assert_eq!(bin(f64::from((edge as f32).next_down())), k - 1, "just below bin {k} in f32");
        }
        for (value, expected) in [(1.0, 255), (1e30, 255), (-1.0, 0), (-1.1, -1), (-1e30, -1), (-0.0, 128)] {
            assert_eq!(bin(value), expected, "{value}");
        }
        // value + 1 is 1: in the middle, but for the comparison.
        assert_eq!([bin(-1e-30), bin(f64::from(-f32::MIN_POSITIVE))], [127, 127]);
    }
}
