//! Where a resized frame lies in the model's square image.

/// Size and offset of a resized frame, pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placement {
    pub width: usize,
    pub height: usize,
    pub left: usize,
    pub top: usize,
}

impl Placement {
    /// The arithmetic of both libraries: `ratio = max(w/size, h/size)`, sides `int(side/ratio)` in f64. An
    /// odd pixel of padding goes to the end; with `pad_before` all padding goes to the start.
    pub fn new(width: usize, height: usize, size: usize, pad_before: bool) -> Option<Self> {
        let ratio = (width as f64 / size as f64).max(height as f64 / size as f64);
        let side = |n: usize| (n as f64 / ratio) as usize;
        let (w, h) = (side(width).min(size), side(height).min(size));
        let before = |side: usize| if pad_before { size - side } else { (size - side) / 2 };
        (w > 0 && h > 0).then_some(Self { width: w, height: h, left: before(w), top: before(h) })
    }
}
