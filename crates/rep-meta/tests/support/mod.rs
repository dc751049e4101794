//! A volume's metadata in memory, for the tests beside this.
#![allow(dead_code, reason = "each test program uses a part")]

use rep_meta::{
    CreateParameters, Identity, InitialBitmap, Layout, LayoutOptions, LoadError, Loaded, MemoryStorage, Placement,
    Superblock, create, load,
};
use rep_types::{NodeName, ResourceName, VolumeNumber};

pub const UUID: u128 = 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff;

pub fn identity() -> Identity {
    Identity {
        resource: ResourceName::new("vz").expect("a name"),
        node: NodeName::new("alpha").expect("a name"),
        volume: VolumeNumber(3),
    }
}

pub fn parameters(device_bytes: u64, placement: Placement) -> CreateParameters {
    CreateParameters {
        identity: identity(),
        device_uuid: UUID,
        placement,
        device_bytes,
        options: LayoutOptions::default(),
        bitmap: InitialBitmap::Clean,
    }
}

/// Fresh metadata for a disk of that size.
pub fn fresh(device_bytes: u64, placement: Placement) -> (MemoryStorage, Superblock, Layout) {
    let layout = Layout::for_device(device_bytes, placement).expect("a legal size");
    let mut storage = MemoryStorage::new(layout.metadata_device_bytes);
    let (superblock, layout) = create(&mut storage, &parameters(device_bytes, placement)).expect("room enough");
    (storage, superblock, layout)
}

pub fn load_it(storage: &mut MemoryStorage, layout: &Layout) -> Result<Loaded, LoadError> {
    load(storage, &identity(), layout.placement, layout.device_bytes)
}
