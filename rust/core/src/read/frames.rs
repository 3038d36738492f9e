//! Compressed files made of frames whose sizes are known beforehand: zstd frames that tell theirs,
//! and gzip members as bgzip writes them. Some are decompressed ahead, on threads of their own, and
//! given in order. What follows a frame of unknown or great size is decompressed as it is read.

use std::collections::VecDeque;
use std::io::{self, BufReader, Cursor, Read};
use std::sync::mpsc::{channel, sync_channel, Receiver, Sender, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};

use zstd::zstd_safe;

use super::{decompress, Compression};

/// Compressed bytes in which frames are first looked for, and at most.
const AHEAD_BYTES: usize = 512 << 10;
const MAX_AHEAD_BYTES: usize = 4 << 20;

/// Most bytes that one frame may hold to be decompressed ahead, and all of a job together.
const MAX_FRAME_BYTES: u64 = 8 << 20;

/// Threads that prepare text as fast as one decompresses it.
const THREADS_EACH: usize = 4;

type Decoder = Box<dyn Read + Send>;

/// A decoder of all frames of a file. What it gives does not depend on the number of threads.
pub(super) struct Frames {
    source: Decoder,
    compression: Compression,
    num_threads: usize,
    /// Compressed bytes that are in no job yet.
    ahead: Vec<u8>,
    /// Nothing follows them.
    is_ended: bool,
    /// A job was made.
    has_begun: bool,
    /// Those on their way, in order.
    in_flight: VecDeque<Receiver<Decoded>>,
    open: Option<Decoded>,
    jobs: Option<Sender<Job>>,
    /// Decompresses what is left, once a frame is not known.
    rest: Option<Decoder>,
}

/// Whole frames, and where they are waited for.
struct Job {
    frames: Vec<u8>,
    decoded: SyncSender<Decoded>,
}

/// What frames hold: bytes, and then an error or what a decoder still gives.
struct Decoded {
    bytes: Cursor<Vec<u8>>,
    rest: io::Result<Decoder>,
}

impl Read for Decoded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match (self.bytes.read(buffer)?, &mut self.rest) {
            (0, Ok(decoder)) => decoder.read(buffer),
            (0, Err(error)) => Err(std::mem::replace(error, io::ErrorKind::InvalidData.into())),
            (count, _) => Ok(count),
        }
    }
}

impl Frames {
    /// Frames for `num_threads` that prepare the text beside the reader; 0 if all is done by one.
    pub(super) fn new(source: Decoder, compression: Compression, num_threads: usize) -> Self {
        Self {
            source,
            compression,
            num_threads: num_threads.div_ceil(THREADS_EACH),
            ahead: Vec::new(),
            is_ended: false,
            has_begun: false,
            in_flight: VecDeque::new(),
            open: None,
            jobs: None,
            rest: None,
        }
    }

    fn fill(&mut self, count: usize) -> io::Result<()> {
        let missing = count.saturating_sub(self.ahead.len());
        let read = self.source.by_ref().take(missing as u64).read_to_end(&mut self.ahead)?;
        self.is_ended |= read < missing;
        Ok(())
    }

    /// The next frames, taken out of what is ahead; `None` if they are not known.
    fn next_frames(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut count = AHEAD_BYTES;
        loop {
            self.fill(count)?;
            if self.is_ended && !self.has_begun {
                return Ok(None); // a file of a few frames is not worth a thread
            }
            let length = length_of_frames(&self.ahead, self.compression);
            if length > 0 {
                let rest = self.ahead.split_off(length);
                return Ok(Some(std::mem::replace(&mut self.ahead, rest)));
            }
            count *= 2;
            if self.is_ended || count > MAX_AHEAD_BYTES {
                return Ok(None);
            }
        }
    }

    /// Keeps the threads busy as long as frames are known.
    fn send(&mut self) -> io::Result<()> {
        while self.rest.is_none() && self.in_flight.len() <= self.num_threads {
            let Some(frames) = self.next_frames()? else {
                self.rest = Some(self.open_rest()?);
                return Ok(());
            };
            self.has_begun = true;
            let (decoded, ready) = sync_channel(1);
            self.in_flight.push_back(ready);
            if self.num_threads == 0 {
                let _ = decoded.send(decode(frames, self.compression));
            } else {
                let _ = self.jobs()?.send(Job { frames, decoded }); // the threads live as long as the sender
            }
        }
        Ok(())
    }

    /// A decoder of what follows the last job.
    fn open_rest(&mut self) -> io::Result<Decoder> {
        let ahead = std::mem::take(&mut self.ahead);
        if ahead.is_empty() && self.has_begun {
            return Ok(Box::new(io::empty())); // the end, which is no frame
        }
        let source = std::mem::replace(&mut self.source, Box::new(io::empty()));
        let capacity = AHEAD_BYTES / 2;
        decompress::decoder(
            BufReader::with_capacity(capacity, Cursor::new(ahead).chain(source)),
            self.compression,
        )
    }

    /// Where jobs are sent; the threads end when it is dropped.
    fn jobs(&mut self) -> io::Result<&Sender<Job>> {
        let jobs = match self.jobs.take() {
            Some(jobs) => jobs,
            None => start(self.num_threads, self.compression)?,
        };
        Ok(self.jobs.insert(jobs))
    }
}

impl Read for Frames {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(open) = &mut self.open {
                match open.read(buffer)? {
                    0 if !buffer.is_empty() => self.open = None,
                    count => return Ok(count),
                }
            }
            self.send()?;
            match (self.in_flight.pop_front(), &mut self.rest) {
                (Some(ready), _) => {
                    let ended = |_| io::Error::other("a thread that decompresses has ended");
                    self.open = Some(ready.recv().map_err(ended)?);
                }
                (None, Some(rest)) => return rest.read(buffer),
                (None, None) => return Ok(0),
            }
        }
    }
}

fn start(num_threads: usize, compression: Compression) -> io::Result<Sender<Job>> {
    let (jobs, todo) = channel();
    let todo = Arc::new(Mutex::new(todo));
    for _ in 0..num_threads {
        let todo = Arc::clone(&todo);
        std::thread::Builder::new().spawn(move || work(&todo, compression))?;
    }
    Ok(jobs)
}

fn work(todo: &Mutex<Receiver<Job>>, compression: Compression) {
    loop {
        let next = todo.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { frames, decoded }) = next else { return };
        let _ = decoded.send(decode(frames, compression)); // nobody waits after an error
    }
}

/// Decompresses frames, up to as much as they may hold; the reader does the rest, if they hold more.
fn decode(frames: Vec<u8>, compression: Compression) -> Decoded {
    let mut bytes = Vec::new();
    let rest = decompress::decoder(Cursor::new(frames), compression).and_then(|mut decoder| {
        decoder.by_ref().take(MAX_FRAME_BYTES + 1).read_to_end(&mut bytes)?;
        Ok(decoder)
    });
    Decoded { bytes: Cursor::new(bytes), rest }
}

/// Bytes of the whole frames with which `bytes` begins and that make a job; 0 if there is none.
fn length_of_frames(bytes: &[u8], compression: Compression) -> usize {
    let frame = match compression {
        Compression::Zstd => zstd_frame,
        Compression::Gzip => gzip_member,
        _ => return 0,
    };
    let (mut length, mut held) = (0, 0);
    while let Some((packed, size)) = frame(&bytes[length..]) {
        held += size;
        if held > MAX_FRAME_BYTES {
            break;
        }
        length += packed;
    }
    length
}

/// Compressed and decompressed bytes of the zstd frame with which `bytes` begins, if it is whole and small.
fn zstd_frame(bytes: &[u8]) -> Option<(usize, u64)> {
    if bytes.is_empty() {
        return None;
    }
    let packed = zstd_safe::find_frame_compressed_size(bytes).ok()?;
    let size = zstd_safe::get_frame_content_size(bytes).ok()??;
    (size <= MAX_FRAME_BYTES && packed <= bytes.len()).then_some((packed, size))
}

/// The same of a gzip member whose header has the field `BC` (SAM specification, section 4.1).
fn gzip_member(bytes: &[u8]) -> Option<(usize, u64)> {
    let [0x1f, 0x8b, 8, 4, _, _, _, _, _, _, 6, 0, b'B', b'C', 2, 0, low, high, ..] = bytes else {
        return None;
    };
    let packed = usize::from(u16::from_le_bytes([*low, *high])) + 1;
    let size = bytes.get(packed.checked_sub(4)?..packed)?.first_chunk()?;
    Some((packed, u64::from(u32::from_le_bytes(*size))))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// Bytes that no compression makes fewer.
    fn noise(count: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        (0..count).map(|_| next()).collect()
    }

    fn zstd_frames() -> Vec<u8> {
        let frame = |chunk: &[u8]| zstd::bulk::compress(chunk, 1).unwrap();
        noise(2_000_000).chunks(90_000).flat_map(frame).collect()
    }

    fn bgzip() -> Vec<u8> {
        let member = |chunk: &[u8]| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(chunk).unwrap();
            let plain = encoder.finish().unwrap();
            let size = u16::try_from(plain.len() + 8 - 1).unwrap().to_le_bytes();
            [&plain[..3], &[4], &plain[4..10], b"\x06\0BC\x02\0", &size, &plain[10..]].concat()
        };
        noise(1_500_000).chunks(40_000).flat_map(member).collect()
    }

    /// All bytes that a decoder gives, and its error.
    fn drained(mut decoder: impl Read) -> (Vec<u8>, Option<String>) {
        let mut bytes = Vec::new();
        let error = decoder.read_to_end(&mut bytes).err();
        (bytes, error.map(|error| error.to_string()))
    }

    fn assert_like_one_decoder(file: &[u8], compression: Compression, case: &str) {
        let plain = drained(decompress::decoder(Cursor::new(file.to_vec()), compression).unwrap());
        for num_threads in [0, 1, 9] {
            let frames = Frames::new(Box::new(Cursor::new(file.to_vec())), compression, num_threads);
            assert!(drained(frames) == plain, "{case}, {num_threads} threads: {:?}", plain.1);
        }
    }

    #[test]
    fn frames_whole_or_damaged_anywhere_give_what_one_decoder_gives() {
        for (file, compression) in [(zstd_frames(), Compression::Zstd), (bgzip(), Compression::Gzip)] {
            assert!(file.len() > 2 * AHEAD_BYTES);
            assert_like_one_decoder(&file, compression, "whole");
            let garbage = [&file[..], b"no frame"].concat();
            assert_like_one_decoder(&garbage, compression, "garbage behind");
            let padded = [&file[..], &[0; 512]].concat();
            assert_like_one_decoder(&padded, compression, "zeros behind");
            for at in [0, 3, 17, 600_003, 900_000, file.len() - 5] {
                assert_like_one_decoder(&file[..at], compression, &format!("cut at {at}"));
                let mut damaged = file.clone();
                damaged[at] ^= 0x55;
                assert_like_one_decoder(&damaged, compression, &format!("damaged at {at}"));
            }
        }
    }

    #[test]
    fn frames_are_found_up_to_what_a_job_may_hold() {
        let small = zstd::bulk::compress(&[b'a'; 1000], 1).unwrap();
        let large = zstd::bulk::compress(&vec![0; 9 << 20], 1).unwrap();
        let of_unknown_size = zstd::encode_all(&[b'a'; 1000][..], 1).unwrap();
        let length = |frames: &[&[u8]]| length_of_frames(&frames.concat(), Compression::Zstd);
        assert_eq!(length(&[&small, &small, &large]), 2 * small.len());
        assert_eq!(length(&[&small, &small[..small.len() - 1]]), small.len());
        assert_eq!(length(&[&of_unknown_size]) * length(&[&large]), 0);
    }
}
