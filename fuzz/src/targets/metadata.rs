//! What lies on the disk: it may be anything.

use super::Target;
use rep_meta::{
    CreateParameters, Identity, InitialBitmap, LayoutOptions, META_BLOCK_SIZE, MetaIoError, MetaStorage, Placement,
    Superblock, create, dump, load, probe,
};
use rep_types::{IoError, NodeName, ResourceName, VolumeNumber};
use std::sync::OnceLock;

/// One superblock.
pub const SUPERBLOCK: Target = Target {
    name: "superblock",
    about: "a superblock",
    run: run_superblock,
    seeds: superblock_seeds,
    length_max: META_BLOCK_SIZE,
    memory_max: 1 << 20,
};

/// Everything else: the log, the summary, the bitmap's pages.
pub const METADATA: Target = Target {
    name: "metadata",
    about: "good metadata with patches over it, or unreadable blocks: recovery of log and bitmap",
    run: run_metadata,
    seeds: metadata_seeds,
    length_max: 4 << 10,
    memory_max: 8 << 20,
};

/// Bytes of the disk the metadata is for.
const DEVICE_BYTES: u64 = 256 << 20;

/// A metadata device in memory.
#[derive(Clone)]
pub struct Image {
    bytes: Vec<u8>,
    unreadable: Option<u64>,
}

impl MetaStorage for Image {
    fn size_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), MetaIoError> {
        let range = offset..offset + buf.len() as u64;
        if self.unreadable.is_some_and(|block| range.contains(&(block * META_BLOCK_SIZE as u64))) {
            return Err(MetaIoError(IoError::Io));
        }
        let from = self.bytes.get(range.start as usize..range.end as usize).ok_or(MetaIoError(IoError::Invalid))?;
        buf.copy_from_slice(from);
        Ok(())
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), MetaIoError> {
        let range = offset as usize..offset as usize + bytes.len();
        self.bytes.get_mut(range).ok_or(MetaIoError(IoError::Invalid))?.copy_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), MetaIoError> {
        Ok(())
    }
}

/// Whose it is.
pub fn identity() -> Identity {
    Identity {
        resource: ResourceName::new("vz").expect("a name"),
        node: NodeName::new("alpha").expect("a name"),
        volume: VolumeNumber(0),
    }
}

/// Metadata as `create-md` makes it for a disk of this size.
pub fn fresh(identity: Identity, bitmap: InitialBitmap, device_bytes: u64) -> Image {
    let parameters = CreateParameters {
        identity,
        device_uuid: 7,
        placement: Placement::External,
        device_bytes,
        options: LayoutOptions::default(),
        bitmap,
    };
    let mut image = Image { bytes: vec![0; 4 << 20], unreadable: None };
    let (_, layout) = create(&mut image, &parameters).expect("metadata for a small disk");
    image.bytes.truncate(layout.metadata_device_bytes as usize);
    image
}

fn fresh_images() -> &'static [Image; 2] {
    static IMAGES: OnceLock<[Image; 2]> = OnceLock::new();
    IMAGES.get_or_init(|| {
        [InitialBitmap::Clean, InitialBitmap::AllSet].map(|bitmap| fresh(identity(), bitmap, DEVICE_BYTES))
    })
}

fn run_superblock(data: &[u8]) {
    let mut block = [0; META_BLOCK_SIZE];
    block[..data.len().min(META_BLOCK_SIZE)].copy_from_slice(&data[..data.len().min(META_BLOCK_SIZE)]);
    if let Ok((superblock, layout)) = Superblock::decode(&block) {
        for (_, again) in superblock.encode_copies(&layout) {
            let decoded = Superblock::decode(&again.0);
            assert_eq!(decoded.as_ref().map(|(superblock, _)| superblock), Ok(&superblock));
        }
    }
}

fn superblock_seeds() -> Vec<Vec<u8>> {
    let image = &fresh_images()[0];
    vec![image.bytes[..META_BLOCK_SIZE].to_vec(), vec![0; META_BLOCK_SIZE]]
}

fn metadata_seeds() -> Vec<Vec<u8>> {
    fresh_images(); // made here, so that no input pays for them
    vec![vec![0], vec![1], vec![0, 1, 0, 0, 0, 1, 0xff], vec![1, 9, 0, 4, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]]
}

/// The first byte chooses the image and a block that can't be read; then patches: block (2 bytes), offset in it
/// (2 bytes), length (1 byte), bytes.
fn run_metadata(data: &[u8]) {
    let Some((&first, mut patches)) = data.split_first() else { return };
    let mut image = fresh_images()[usize::from(first & 1)].clone();
    let blocks = image.bytes.len() / META_BLOCK_SIZE;
    image.unreadable = (first & 2 != 0).then(|| u64::from(first >> 2) % blocks as u64);
    while let [block, block_high, at, at_high, length, rest @ ..] = patches {
        let block = usize::from(u16::from_le_bytes([*block, *block_high])) % blocks;
        let at = block * META_BLOCK_SIZE + usize::from(u16::from_le_bytes([*at, *at_high])) % META_BLOCK_SIZE;
        let (bytes, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        for (to, from) in image.bytes[at..].iter_mut().zip(bytes) {
            *to = *from;
        }
        patches = rest;
    }
    let _ = probe(&mut image, Placement::External);
    let _ = dump(&mut image, Placement::External);
    if let Ok(loaded) = load(&mut image, &identity(), Placement::External, DEVICE_BYTES) {
        let again = load(&mut image, &identity(), Placement::External, DEVICE_BYTES);
        assert_eq!(again.as_ref(), Ok(&loaded), "loading repairs once and then finds the same");
    }
}
