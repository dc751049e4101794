//! What an NBD client sends, and what a server sends our own client.

use super::Target;

/// Options until the transmission begins.
pub const HANDSHAKE: Target = Target {
    name: "nbd-handshake",
    about: "an NBD client's options, cut anywhere",
    run: rep_nbd::fuzz::fuzz_negotiation,
    seeds: handshake_seeds,
    length_max: 20 << 10,
    ..Target::USUAL
};

/// Requests after that.
pub const REQUESTS: Target = Target {
    name: "nbd-requests",
    about: "an NBD client's requests, cut anywhere",
    run: rep_nbd::fuzz::fuzz_transmission,
    seeds: request_seeds,
    length_max: 8 << 10,
    ..Target::USUAL
};

/// The client's side.
pub const CLIENT: Target = Target {
    name: "nbd-client",
    about: "what a server answers our NBD client",
    run: rep_nbd::fuzz::fuzz_client,
    seeds: client_seeds,
    length_max: 8 << 10,
    ..Target::USUAL
};

const OPTION_MAGIC: &[u8] = b"IHAVEOPT";

fn option(number: u32, data: &[u8]) -> Vec<u8> {
    [OPTION_MAGIC, &number.to_be_bytes(), &(data.len() as u32).to_be_bytes(), data].concat()
}

/// The data of INFO and GO: a name and the numbers of the information wanted.
fn info(name: &str, wanted: &[u16]) -> Vec<u8> {
    let mut data = (name.len() as u32).to_be_bytes().to_vec();
    data.extend(name.as_bytes());
    data.extend((wanted.len() as u16).to_be_bytes());
    wanted.iter().for_each(|number| data.extend(number.to_be_bytes()));
    data
}

fn handshake_seeds() -> Vec<Vec<u8>> {
    let mut context = 2_u32.to_be_bytes().to_vec();
    context.extend(b"vz\0\0\0\x01\0\0\0\x0fbase:allocation");
    let streams = [
        option(7, &info("vz", &[0, 3])),
        option(6, &info("", &[1, 2, 3])),
        option(1, b"vz"),
        option(3, b""),
        option(2, b""),
        option(5, b""),
        [option(8, b""), option(10, &context), option(7, &info("vz/1", &[]))].concat(),
        [option(9, &context), option(99, b"unknown"), option(7, &info("nobody", &[]))].concat(),
    ];
    let mut seeds = Vec::new();
    for stream in streams {
        for config in [0_u8, 2, 7] {
            seeds.push([&[config][..], &3_u32.to_be_bytes(), &stream].concat());
        }
    }
    // Longer than an option's data may be, and names longer than a string may be; cut into few pieces.
    for stream in [
        [option(7, &[0; 16385]), option(3, b"")].concat(),
        option(1, &[b'x'; 16385]),
        option(7, &info(&"x".repeat(4097), &[])),
        option(
            10,
            &[&2_u32.to_be_bytes()[..], b"vz", &1_u32.to_be_bytes(), &4097_u32.to_be_bytes(), &[b'x'; 4097]].concat(),
        ),
    ] {
        seeds.push([&[254][..], &3_u32.to_be_bytes(), &stream].concat());
    }
    seeds
}

fn request(flags: u16, kind: u16, offset: u64, length: u32, payload: &[u8]) -> Vec<u8> {
    let head = [&0x2560_9513_u32.to_be_bytes()[..], &flags.to_be_bytes(), &kind.to_be_bytes(), &7_u64.to_be_bytes()];
    [head.concat(), offset.to_be_bytes().to_vec(), length.to_be_bytes().to_vec(), payload.to_vec()].concat()
}

fn request_seeds() -> Vec<Vec<u8>> {
    let all: Vec<u8> =
        (0..=8).flat_map(|kind| request(0, kind, 4096, 512, if kind == 1 { &[9; 512] } else { &[] })).collect();
    let streams = [
        request(0, 0, 0, 4096, &[]),
        request(1, 1, 512, 512, &[1; 512]),
        request(0, 3, 0, 0, &[]),
        request(2, 6, 0, 1 << 19, &[]),
        request(0, 4, 0, u32::MAX, &[]),
        request(8, 7, 0, u32::MAX, &[]),
        request(0, 0, u64::MAX, u32::MAX, &[]),
        all,
    ];
    let mut seeds = Vec::new();
    for stream in streams {
        for config in [0_u8, 16 + 32, 1, 64] {
            seeds.push([&[config, 5][..], &stream].concat());
        }
    }
    seeds
}

fn client_seeds() -> Vec<Vec<u8>> {
    let simple = |error: u32, cookie: u64, data: &[u8]| {
        [&0x6744_6698_u32.to_be_bytes()[..], &error.to_be_bytes(), &cookie.to_be_bytes(), data].concat()
    };
    let chunk = |flags: u16, kind: u16, cookie: u64, data: &[u8]| {
        let head =
            [&0x668e_33ef_u32.to_be_bytes()[..], &flags.to_be_bytes(), &kind.to_be_bytes(), &cookie.to_be_bytes()];
        [head.concat(), (data.len() as u32).to_be_bytes().to_vec(), data.to_vec()].concat()
    };
    let greeting = [b"NBDMAGIC".as_slice(), OPTION_MAGIC, &3_u16.to_be_bytes()].concat();
    let handshakes = server_handshakes().into_iter().flat_map(|replies| {
        // Cut nowhere, and into pieces of three bytes.
        [0_u8, 7].map(|config| [&[config][..], &greeting, &replies.concat()].concat())
    });
    let mut offset_data = 4096_u64.to_be_bytes().to_vec();
    offset_data.extend([5; 512]);
    let mut hole = 4096_u64.to_be_bytes().to_vec();
    hole.extend(8192_u32.to_be_bytes());
    let mut seeds = vec![
        [&[1][..], &simple(0, 3, &[])].concat(),
        [&[1][..], &simple(5, 1, &[])].concat(),
        [&[0][..], &chunk(1, 1, 1, &offset_data), &chunk(1, 0, 3, &[])].concat(),
        [&[0][..], &chunk(0, 2, 1, &hole), &chunk(1, 0x8001, 2, &[0, 0, 0, 5, 0, 0])].concat(),
        [&[0][..], &chunk(1, 5, 5, &[0, 0, 0, 1, 0, 0, 16, 0, 0, 0, 0, 3])].concat(),
        [&[0][..], &greeting].concat(),
    ];
    // An error with a message and a place, a hole and data out of order, an end without data, a status of two extents.
    seeds.extend([
        [&[0][..], &chunk(1, 0x8002, 2, &[0, 0, 0, 5, 0, 2, b'n', b'o', 0, 0, 0, 0, 0, 0, 16, 0])].concat(),
        [&[0][..], &chunk(0, 2, 1, &hole), &chunk(1, 1, 1, &offset_data), &chunk(1, 0, 2, &[])].concat(),
        [
            &[0][..],
            &chunk(0, 5, 5, &[0, 0, 0, 1, 0, 0, 16, 0, 0, 0, 0, 3, 0, 0, 16, 0, 0, 0, 0, 0]),
            &chunk(1, 0, 5, &[]),
        ]
        .concat(),
    ]);
    seeds.extend(handshakes);
    seeds
}

/// What servers answer the options our client sends: all of them, none of them, with an error, not at all.
fn server_handshakes() -> Vec<Vec<Vec<u8>>> {
    const STRUCTURED: u32 = 8;
    const CONTEXT: u32 = 10;
    const GO: u32 = 7;
    const ACK: u32 = 1;
    const UNSUPPORTED: u32 = 1 << 31 | 1;
    let reply = |option: u32, kind: u32, data: &[u8]| {
        let head = [&0x0003_e889_0455_65a9_u64.to_be_bytes()[..], &option.to_be_bytes(), &kind.to_be_bytes()].concat();
        [&head, &(data.len() as u32).to_be_bytes()[..], data].concat()
    };
    let export = [&0_u16.to_be_bytes()[..], &(1_u64 << 20).to_be_bytes(), &0x1ff_u16.to_be_bytes()].concat();
    let mut sizes = 3_u16.to_be_bytes().to_vec();
    [512_u32, 4096, 32 << 20].iter().for_each(|size| sizes.extend(size.to_be_bytes()));
    let go = [reply(GO, 3, &export), reply(GO, 3, &sizes), reply(GO, 3, &[0, 1, b'v']), reply(GO, ACK, &[])].concat();
    let context = [reply(CONTEXT, 4, b"\0\0\0\x01base:allocation"), reply(CONTEXT, ACK, &[])].concat();
    vec![
        vec![reply(STRUCTURED, ACK, &[]), context.clone(), go.clone()],
        vec![reply(STRUCTURED, ACK, &[]), reply(CONTEXT, UNSUPPORTED, b"no"), go.clone()],
        vec![reply(STRUCTURED, ACK, &[]), go.clone()],
        vec![reply(STRUCTURED, UNSUPPORTED, &[]), go],
        vec![reply(STRUCTURED, UNSUPPORTED, &[]), reply(GO, 1 << 31 | 6, b"nobody is Primary")],
        vec![reply(STRUCTURED, UNSUPPORTED, &[]), reply(GO, ACK, &[])],
    ]
}
