//! Pictures on disk: one of them, a folder of them, and a sequence of the MOT challenge.
//!
//! Every reader of pictures comes here, so that a folder has one order and a picture is refused for the same reasons
//! whoever reads it. Files are bounded before they are read. Nothing here waits for a frame's time, nor writes.

pub mod sequence;

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};

use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use picket_shared::exit::{Exit, Failure};

use crate::frame::Frame;
use sequence::Description;

/// Widest and highest picture.
pub const SIDE_PX_MAX: u32 = crate::detect::preprocess::FRAME_SIDE_MAX;
/// Largest file of one picture.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Memory that decoding one picture may take: the largest frame in 16-bit colour with transparency.
const DECODE_BYTES_MAX: u64 = SIDE_PX_MAX as u64 * SIDE_PX_MAX as u64 * 8;
/// Pictures of one folder: nine hours at 30 a second. Their names are held in memory.
const PICTURES_MAX: usize = 1_000_000;
/// The file that describes a sequence, and its largest length; a true one has 150 bytes.
const DESCRIPTION: &str = "seqinfo.ini";
const DESCRIPTION_BYTES_MAX: u64 = 16 * 1024;
/// Where a sequence's pictures are if nothing says it.
const FOLDER_DEFAULT: &str = "img1";

/// Why a folder gives no pictures, as a sentence.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Its description is wrong.
    #[error("{0}")]
    Description(String),
    /// It cannot be read, or holds none, or too many.
    #[error("the folder {0}")]
    Folder(String),
}

impl From<FolderError> for Failure {
    fn from(error: FolderError) -> Failure {
        let exit = if matches!(error, FolderError::Description(_)) { Exit::Data } else { Exit::Source };
        Failure::new(exit, error.to_string())
    }
}

/// A folder of pictures, or the folder of a sequence.
#[derive(Debug)]
pub struct Sequence {
    /// Its pictures, in order.
    pub files: Vec<PathBuf>,
    /// Frames a second, where it says it.
    pub fps: Option<f64>,
    /// Frames, where it says it.
    pub frames: Option<u64>,
}

impl Sequence {
    /// Looks into a folder. Its pictures are in it, or where its description says, or in `img1`.
    pub fn open(folder: &Path) -> Result<Sequence, FolderError> {
        let Description { pictures, fps, frames } = describe(folder)?.unwrap_or_default();
        let named = pictures.map(|name| folder.join(name));
        let usual = || Some(folder.join(FOLDER_DEFAULT)).filter(|folder| folder.is_dir());
        let files = in_folder(&named.or_else(usual).unwrap_or_else(|| folder.to_owned()))?;
        Ok(Sequence { files, fps, frames })
    }
}

/// What the sequence in a folder says of itself, where it says anything.
pub fn describe(folder: &Path) -> Result<Option<Description>, FolderError> {
    let path = folder.join(DESCRIPTION);
    if !path.is_file() {
        return Ok(None);
    }
    let wrong = |what: String| FolderError::Description(format!("{} {what}", path.display()));
    let mut text = String::new();
    let read = File::open(&path).and_then(|file| file.take(DESCRIPTION_BYTES_MAX + 1).read_to_string(&mut text));
    match read {
        Err(error) => Err(wrong(format!("cannot be read ({error}); check it"))),
        Ok(bytes) if bytes as u64 > DESCRIPTION_BYTES_MAX => {
            Err(wrong(format!("has more than {DESCRIPTION_BYTES_MAX} bytes; check it")))
        }
        Ok(_) => sequence::parse(&text).map(Some).map_err(wrong),
    }
}

/// The JPEG and PNG pictures of a folder: by number where all are named by one, else by name.
pub fn in_folder(folder: &Path) -> Result<Vec<PathBuf>, FolderError> {
    let refuse = |what: String| FolderError::Folder(format!("{} {what}", folder.display()));
    let is_picture = |path: &PathBuf| {
        let known = ["jpg", "jpeg", "png"];
        path.extension().is_some_and(|extension| known.iter().any(|known| extension.eq_ignore_ascii_case(known)))
    };
    let entries = std::fs::read_dir(folder).map_err(|e| refuse(format!("cannot be read ({e}); check the path")))?;
    let mut files: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(is_picture).take(PICTURES_MAX + 1).collect();
    match files.len() {
        0 => return Err(refuse("holds no .jpg, .jpeg or .png file; name the folder that does".into())),
        count if count > PICTURES_MAX => {
            return Err(refuse(format!("holds more than {PICTURES_MAX} pictures; split it")));
        }
        _ => files.sort(),
    }
    let number = |path: &PathBuf| path.file_stem()?.to_str()?.parse::<u64>().ok();
    if files.iter().all(|path| number(path).is_some()) {
        files.sort_by_key(number);
    }
    Ok(files)
}

/// Reads a picture, upright. The error is the end of a sentence.
pub fn read(file: &Path) -> Result<Frame, String> {
    let mut frame = Frame::default();
    read_into(file, &mut Vec::new(), &mut frame).map(|()| frame)
}

/// The same into a frame that is there, whose buffer is used again, and with `bytes` as scratch.
pub fn read_into(file: &Path, bytes: &mut Vec<u8>, frame: &mut Frame) -> Result<(), String> {
    let unreadable = |e: io::Error| format!("cannot be read ({e}); check the path");
    // Asked before it is opened: opening a pipe would wait for its other end.
    if !std::fs::metadata(file).map_err(unreadable)?.is_file() {
        return Err("is not a file; name the pictures themselves".into());
    }
    bytes.clear();
    File::open(file).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(bytes)).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("has more than {FILE_BYTES_MAX} bytes; scale it down"));
    }
    decode(bytes, frame)
}

/// Decodes a JPEG or a PNG, upright. The error is the end of a sentence.
fn decode(bytes: &[u8], frame: &mut Frame) -> Result<(), String> {
    let guessed = ImageReader::new(Cursor::new(bytes)).with_guessed_format();
    let mut reader = guessed.expect("memory can be read");
    let format = reader.format().filter(|format| matches!(format, ImageFormat::Jpeg | ImageFormat::Png));
    let format = format.ok_or("is neither a JPEG nor a PNG; convert it")?;
    // The decoder would make up what is missing.
    if format == ImageFormat::Jpeg && !is_whole(bytes) {
        return Err(format!("is damaged (it ends after {} bytes, before its end); copy it again", bytes.len()));
    }
    let mut limits = Limits::default();
    (limits.max_image_width, limits.max_image_height) = (Some(SIDE_PX_MAX), Some(SIDE_PX_MAX));
    limits.max_alloc = Some(DECODE_BYTES_MAX);
    reader.limits(limits);
    let bad = |e: image::ImageError| match e {
        image::ImageError::Limits(_) => format!("is larger than {SIDE_PX_MAX} pixels a side; scale it down"),
        e => format!("is damaged ({e}); copy it again"),
    };
    let mut decoder = reader.into_decoder().map_err(bad)?;
    // A telephone's picture often lies on its side and says so.
    let orientation = decoder.orientation().map_err(bad)?;
    if decoder.color_type() == ColorType::Rgb8 && orientation == Orientation::NoTransforms {
        (frame.width, frame.height) = decoder.dimensions();
        frame.rgb.resize(frame.width as usize * frame.height as usize * 3, 0);
        return decoder.read_image(&mut frame.rgb).map_err(bad);
    }
    let mut picture = DynamicImage::from_decoder(decoder).map_err(bad)?;
    picture.apply_orientation(orientation);
    let rgb = picture.into_rgb8();
    (frame.width, frame.height) = rgb.dimensions();
    frame.rgb = rgb.into_raw();
    Ok(())
}

/// Whether a JPEG's picture is there to its end marker. What stands behind that, such as a telephone's film, does not count,
/// nor does the end of a thumbnail in its head.
fn is_whole(jpeg: &[u8]) -> bool {
    let mut rest = jpeg.get(2..).unwrap_or_default();
    while let [0xff, marker, high, low, ..] = *rest {
        match marker {
            0xda => return rest.windows(2).any(|pair| pair == [0xff, 0xd9]),
            // Filling.
            0xff => rest = &rest[1..],
            _ => rest = rest.get(2 + usize::from(u16::from_be_bytes([high, low]))..).unwrap_or_default(),
        }
    }
    // Something else than a segment: the decoder judges that.
    rest.len() >= 4
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::codecs::jpeg::JpegEncoder;
    use image::codecs::png::PngEncoder;
    use image::{ExtendedColorType, ImageEncoder};

    #[test]
    fn what_is_no_usable_picture_is_told_in_a_sentence() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let (mut png, mut jpeg) = (Vec::new(), Vec::new());
        PngEncoder::new(&mut png).write_image(&[7; 12], 2, 2, ExtendedColorType::Rgb8).unwrap();
        JpegEncoder::new(&mut jpeg).write_image(&[7; 64 * 64 * 3], 64, 64, ExtendedColorType::Rgb8).unwrap();
        // A header that promises 9,000 columns (with its checksum, so that only the size is wrong).
        let mut wide = Vec::new();
        PngEncoder::new(&mut wide).write_image(&vec![7; 9000 * 3], 9000, 1, ExtendedColorType::Rgb8).unwrap();
        for (path, expect) in [
            (dir.path().join("none.jpg"), "cannot be read"),
            (dir.path().to_owned(), "is not a file"),
            (file("empty.jpg", b""), "is neither a JPEG nor a PNG"),
            (file("text.jpg", b"hello"), "is neither a JPEG nor a PNG"),
            (file("gif.gif", b"GIF89a\x01\0\x01\0\0\0\0;"), "is neither a JPEG nor a PNG"),
            (file("cut.png", &png[..png.len() / 2]), "is damaged"),
            (file("cut.jpg", b"\xff\xd8\xff\xe0\0\x10JFIF"), "is damaged"),
            (file("half.jpg", &jpeg[..jpeg.len() - 20]), "before its end"),
            (file("wide.png", &wide), "is larger than 8192 pixels a side"),
        ] {
            let refused = read(&path).unwrap_err();
            assert!(refused.contains(expect), "{}: {refused}", path.display());
        }
        assert_eq!(read(&file("fine.png", &png)).unwrap().rgb, [7; 12]);
        // A film behind the end harms nothing, and a thumbnail in the head is no end.
        let film = [&jpeg[..], b"\0\0\0\x18ftypmp42"].concat();
        assert_eq!(read(&file("film.jpg", &film)).unwrap().width, 64);
        let thumbnail = [&[0xff, 0xd8, 0xff, 0xe1, 0, 6, 1, 2, 0xff, 0xd9], &jpeg[2..jpeg.len() - 20]].concat();
        assert!(read(&file("thumbnail.jpg", &thumbnail)).unwrap_err().contains("before its end"));
    }

    #[test]
    fn a_frames_buffer_is_used_again_and_a_picture_without_three_colours_is_read_too() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, color: ExtendedColorType, bytes: &[u8]| {
            let path = dir.path().join(name);
            PngEncoder::new(File::create(&path).unwrap()).write_image(bytes, 2, 1, color).unwrap();
            path
        };
        let mut frame = Frame { rgb: vec![9; 1000], ..Frame::default() };
        let (buffer, mut bytes) = (frame.rgb.as_ptr(), Vec::new());
        read_into(&file("rgb.png", ExtendedColorType::Rgb8, &[1, 2, 3, 4, 5, 6]), &mut bytes, &mut frame).unwrap();
        assert_eq!((frame.width, frame.height, &frame.rgb[..]), (2, 1, &[1, 2, 3, 4, 5, 6][..]));
        assert_eq!(frame.rgb.as_ptr(), buffer);
        read_into(&file("grey.png", ExtendedColorType::L8, &[7, 8]), &mut bytes, &mut frame).unwrap();
        assert_eq!(frame.rgb, [7, 7, 7, 8, 8, 8]);
    }

    #[test]
    fn pictures_come_by_number_where_all_have_one() {
        for (files, expect) in [
            (vec!["10.jpg", "9.JPG", "x.txt", "011.png"], vec!["9.JPG", "10.jpg", "011.png"]),
            (vec!["a10.jpg", "a9.jpg", "1.jpg"], vec!["1.jpg", "a10.jpg", "a9.jpg"]),
        ] {
            let dir = tempfile::tempdir().unwrap();
            files.iter().for_each(|file| std::fs::write(dir.path().join(file), b"").unwrap());
            let found = in_folder(dir.path()).unwrap();
            assert_eq!(
                found.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect::<Vec<_>>(),
                expect
            );
        }
    }

    #[test]
    fn a_sequence_is_found_where_it_says_or_where_it_is_wont_to_be() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        let first =
            || Sequence::open(dir.path()).map(|found| found.files[0].strip_prefix(dir.path()).unwrap().to_owned());
        let exit = || Failure::from(first().unwrap_err());
        assert!(matches!(exit(), Failure { exit: Exit::Source, sentence } if sentence.contains("holds no .jpg")));
        write("1.jpg", "");
        assert_eq!(first().unwrap(), Path::new("1.jpg"));
        std::fs::create_dir(dir.path().join("img1")).unwrap();
        write("img1/2.jpg", "");
        assert_eq!(first().unwrap(), Path::new("img1/2.jpg"));
        std::fs::create_dir(dir.path().join("frames")).unwrap();
        write("frames/3.jpg", "");
        write("seqinfo.ini", "imDir=frames\nframeRate=30\nseqLength=7\n");
        assert_eq!(first().unwrap(), Path::new("frames/3.jpg"));
        let sequence = Sequence::open(dir.path()).unwrap();
        assert_eq!((sequence.fps, sequence.frames), (Some(30.0), Some(7)));
        // What is named and not there is not guessed at.
        write("seqinfo.ini", "imDir=elsewhere\n");
        assert!(
            matches!(exit(), Failure { exit: Exit::Source, sentence } if sentence.contains("elsewhere cannot be read"))
        );
        write("seqinfo.ini", "frameRate=fast\n");
        let failure = exit();
        assert!(failure.exit == Exit::Data && failure.sentence.contains("seqinfo.ini line 1: frameRate"), "{failure}");
        write("seqinfo.ini", &"# long\n".repeat(3000));
        assert!(exit().sentence.contains("has more than 16384 bytes"));
    }
}
