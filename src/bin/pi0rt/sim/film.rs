//! The run as a picture and as an animated PNG.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use png::{BitDepth, BlendOp, ColorType, Compression, DisposeOp, Encoder, EncodingError};

use super::Plan;
use super::record::{FILM_STEPS, Moment, Record};
use super::sheet::{HEIGHT, Sheet, WIDTH};
use crate::tabletop::Scene;

/// How long the last frame is shown before the animation begins again, in frames' times.
const LAST_SHOWN: u16 = 12;

/// A rectangle of a sheet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
}

/// Writes the last moment as a PNG file.
///
/// # Errors
/// The file can't be written.
pub fn picture(path: &Path, plan: &Plan<'_>, record: &Record) -> Result<(), String> {
    let Some(last) = record.film.len().checked_sub(1) else { return Err("nothing was filmed".into()) };
    let sheet = Sheet::draw(&Scene::of(plan.seed), &record.film, last);
    write(path, |out| {
        let mut encoder = Encoder::new(out, WIDTH as u32, HEIGHT as u32);
        encoder.set_color(ColorType::Rgb);
        encoder.set_depth(BitDepth::Eight);
        encoder.set_compression(Compression::High);
        encoder.write_header()?.write_image_data(&sheet.pixels)
    })
}

/// Writes all moments as an animated PNG file, of which each frame has only what has changed.
///
/// # Errors
/// The file can't be written.
pub fn animation(path: &Path, plan: &Plan<'_>, record: &Record) -> Result<(), String> {
    let film = &record.film[..];
    if film.is_empty() {
        return Err("nothing was filmed".into());
    }
    write(path, |out| encode(out, &Scene::of(plan.seed), film))
}

fn encode(out: impl std::io::Write, scene: &Scene, film: &[Moment]) -> Result<(), EncodingError> {
    let mut encoder = Encoder::new(out, WIDTH as u32, HEIGHT as u32);
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_compression(Compression::High);
    encoder.set_animated(film.len() as u32, 0)?;
    encoder.set_frame_delay(FILM_STEPS as u16, 1000)?;
    encoder.set_dispose_op(DisposeOp::None)?;
    encoder.set_blend_op(BlendOp::Source)?;
    let mut writer = encoder.write_header()?;
    let mut before: Option<Sheet> = None;
    for at in 0..film.len() {
        let sheet = Sheet::draw(scene, film, at);
        let part = before.as_ref().map_or(WHOLE, |before| changed(&before.pixels, &sheet.pixels));
        writer.set_frame_position(0, 0)?;
        writer.set_frame_dimension(part.width as u32, part.height as u32)?;
        writer.set_frame_position(part.left as u32, part.top as u32)?;
        if at + 1 == film.len() {
            writer.set_frame_delay(FILM_STEPS as u16 * LAST_SHOWN, 1000)?;
        }
        let rows = sheet.pixels.chunks_exact(WIDTH * 3).skip(part.top).take(part.height);
        let pixels: Vec<u8> =
            rows.flat_map(|row| &row[part.left * 3..(part.left + part.width) * 3]).copied().collect();
        writer.write_image_data(&pixels)?;
        before = Some(sheet);
    }
    writer.finish()
}

const WHOLE: Part = Part { left: 0, top: 0, width: WIDTH, height: HEIGHT };

/// The smallest rectangle outside of which two sheets are the same; a pixel where they are.
fn changed(before: &[u8], after: &[u8]) -> Part {
    let pixels = before.as_chunks::<3>().0.iter().zip(after.as_chunks::<3>().0);
    let mut part: Option<[usize; 4]> = None;
    for (i, _) in pixels.enumerate().filter(|(_, (before, after))| before != after) {
        let (x, y) = (i % WIDTH, i / WIDTH);
        let [left, top, right, bottom] = part.unwrap_or([x, y, x, y]);
        part = Some([left.min(x), top.min(y), right.max(x), bottom.max(y)]);
    }
    let [left, top, right, bottom] = part.unwrap_or([0; 4]);
    Part { left, top, width: right - left + 1, height: bottom - top + 1 }
}

fn write(
    path: &Path,
    content: impl FnOnce(BufWriter<File>) -> Result<(), EncodingError>,
) -> Result<(), String> {
    let error = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let file = File::create(path).map_err(|e| error(&e))?;
    content(BufWriter::new(file)).map_err(|e| error(&e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tabletop::World;

    #[test]
    fn frames_have_what_has_changed() {
        let blank = vec![0; WIDTH * HEIGHT * 3];
        assert_eq!(changed(&blank, &blank), Part { left: 0, top: 0, width: 1, height: 1 });
        let mut other = blank.clone();
        other[(7 * WIDTH + 5) * 3] = 1;
        other[(9 * WIDTH + 4) * 3 + 2] = 1;
        assert_eq!(changed(&blank, &other), Part { left: 4, top: 7, width: 2, height: 3 });
    }

    /// Decoded, the frames put over each other are the sheets.
    #[test]
    fn an_animation_shows_the_sheets() {
        let scene = Scene::of(3);
        let mut moments = Vec::new();
        let mut world = World::new(&scene);
        for stage in [1, 1, 4] {
            let command = world.joints.map(|joint| joint as f32);
            moments.push(Moment { world: world.clone(), command, stage, success: false });
            world.play(&scene.joints, &[0.3, 1.0, 0.0, 0.05], 100);
        }
        let mut bytes = Vec::new();
        encode(&mut bytes, &scene, &moments).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(&bytes)).read_info().unwrap();
        assert_eq!(reader.info().animation_control().unwrap().num_frames, 3);
        let (mut canvas, mut frame) = (vec![0; WIDTH * HEIGHT * 3], vec![0; WIDTH * HEIGHT * 3]);
        for at in 0..3 {
            let info = reader.next_frame(&mut frame).unwrap();
            let control = *reader.info().frame_control().unwrap();
            let (left, top) = (control.x_offset as usize, control.y_offset as usize);
            for (row, line) in frame[..info.buffer_size()].chunks_exact(info.width as usize * 3).enumerate() {
                let start = ((top + row) * WIDTH + left) * 3;
                canvas[start..start + line.len()].copy_from_slice(line);
            }
            assert!(canvas == Sheet::draw(&scene, &moments, at).pixels, "frame {at}");
        }
    }
}
