//! Luma and colour differences to RGB.
//!
//! Formula: ITU-R BT.601, luma from 16 to 235, colour differences from 16 to 240 around 128, in fixed point of 20 bits as
//! OpenCV's `cvtColor` has it: `R = 1.164·(Y-16) + 1.596·(V-128)`, `G = 1.164·(Y-16) - 0.391·(U-128) - 0.813·(V-128)`,
//! `B = 1.164·(Y-16) + 2.018·(U-128)`. Pixels that share their colour get it as it is, without interpolation.

use crate::policy::frame::{Frame, PixelFormat};

const SHIFT: u32 = 20;
const HALF: i32 = 1 << (SHIFT - 1);
const LUMA: i32 = 1_220_542;
const BLUE_OF_U: i32 = 2_116_026;
const GREEN_OF_U: i32 = -409_993;
const GREEN_OF_V: i32 = -852_492;
const RED_OF_V: i32 = 1_673_527;

/// Converts a checked frame with colour differences to `rgb`, three bytes per pixel without gaps.
///
/// # Panics
/// If the frame has another format.
pub(super) fn convert(frame: &Frame<'_>, rgb: &mut Vec<u8>) {
    rgb.resize(3 * frame.width * frame.height, 0);
    let rows = rgb.chunks_exact_mut(3 * frame.width).enumerate();
    match frame.format {
        PixelFormat::Yuyv => {
            for (y, out) in rows {
                let (pairs, _) = frame.row(y).as_chunks::<4>();
                for (out, &[y0, u, y1, v]) in out.as_chunks_mut::<6>().0.iter_mut().zip(pairs) {
                    *out = pair([y0, y1], [u, v]);
                }
            }
        }
        PixelFormat::Nv12 => {
            for (y, out) in rows {
                let (luma, _) = frame.row(y).as_chunks::<2>();
                let (colours, _) = frame.row(frame.height + y / 2).as_chunks::<2>();
                let pairs = luma.iter().zip(colours);
                for (out, (&luma, &colour)) in out.as_chunks_mut::<6>().0.iter_mut().zip(pairs) {
                    *out = pair(luma, colour);
                }
            }
        }
        other => unreachable!("{other:?} has no colour differences"),
    }
}

/// Red, green and blue of two pixels of the same colour.
#[inline]
fn pair(luma: [u8; 2], [u, v]: [u8; 2]) -> [u8; 6] {
    let (u, v) = (i32::from(u) - 128, i32::from(v) - 128);
    let colour = [RED_OF_V * v, GREEN_OF_U * u + GREEN_OF_V * v, BLUE_OF_U * u].map(|sum| sum + HALF);
    let mut out = [0; 6];
    for (out, luma) in out.as_chunks_mut::<3>().0.iter_mut().zip(luma) {
        let luma = (i32::from(luma) - 16).max(0) * LUMA;
        *out = colour.map(|sum| ((luma + sum) >> SHIFT).clamp(0, 255) as u8);
    }
    out
}
