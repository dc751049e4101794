use super::*;

fn export(size_bytes: u64, min_block_bytes: u32) -> Result<Export, ExportError> {
    Export::new(ExportId(3), "vz", size_bytes, min_block_bytes)
}

#[test]
fn an_export_is_whole_blocks_long() {
    for (size, block, offered) in [(10_000, 512, 9728), (10_000, 4096, 8192), (8192, 4096, 8192), (511, 512, 0)] {
        assert_eq!(export(size, block).unwrap().size_bytes(), offered);
    }
}

#[test]
fn only_block_sizes_the_protocol_knows() {
    for block in [0, 1, 256, 513, 3 << 10, 128 << 10, u32::MAX] {
        assert_eq!(export(1 << 20, block), Err(ExportError::BadMinBlock(block)));
    }
    assert_eq!(export(1 << 20, 512).unwrap().block_sizes(), [512, 4096, 64 << 20]);
    assert_eq!(export(1 << 20, 64 << 10).unwrap().block_sizes(), [64 << 10, 64 << 10, 64 << 20]);
}

#[test]
fn names_have_a_longest_length() {
    let (longest, longer) = ("x".repeat(STRING_LENGTH_MAX), "x".repeat(STRING_LENGTH_MAX + 1));
    assert!(Export::new(ExportId(0), &longest, 512, 512).is_ok());
    assert_eq!(Export::new(ExportId(0), &longer, 512, 512), Err(ExportError::TooLong));
    assert_eq!(export(512, 512).unwrap().with_alias(&longer), Err(ExportError::TooLong));
    assert_eq!(export(512, 512).unwrap().with_description(&longer), Err(ExportError::TooLong));
}

#[test]
fn flags_follow_the_features() {
    let plain = ExportFeatures {
        read_only: false,
        volatile_cache: false,
        trim: false,
        fast_zero: FastZero::NotOffered,
        multi_conn: false,
        block_status: false,
    };
    let flags = |features| export(512, 512).unwrap().with_features(features).transmission_flags(false);
    let always = flag::HAS_FLAGS | flag::SEND_WRITE_ZEROES | flag::SEND_CACHE;
    assert_eq!(flags(plain), always);
    let added = |features| flags(features) & !always;
    assert_eq!(added(ExportFeatures { read_only: true, ..plain }), flag::READ_ONLY);
    assert_eq!(added(ExportFeatures { volatile_cache: true, ..plain }), flag::SEND_FLUSH | flag::SEND_FUA);
    assert_eq!(added(ExportFeatures { trim: true, ..plain }), flag::SEND_TRIM);
    assert_eq!(added(ExportFeatures { multi_conn: true, ..plain }), flag::CAN_MULTI_CONN);
    for fast_zero in [FastZero::AlwaysRefused, FastZero::Done] {
        assert_eq!(added(ExportFeatures { fast_zero, ..plain }), flag::SEND_FAST_ZERO);
    }
    assert_eq!(export(512, 512).unwrap().with_features(plain).transmission_flags(true), always | flag::SEND_DF);
}

#[test]
fn the_empty_name_is_the_defaults_if_there_is_one() {
    let one = || vec![export(512, 512).unwrap()];
    assert!(ExportCatalog::new(one(), None).find(b"").is_none());
    assert!(ExportCatalog::new(one(), Some(ExportId(9))).find(b"").is_none());
    assert!(ExportCatalog::new(one(), Some(ExportId(3))).find(b"").is_some());
    assert!(ExportCatalog::new(one(), Some(ExportId(3))).find(b"v").is_none());
}
