//! ```text
//!   disk A  [....data....|hole|..data..]
//!   disk B  [....dXta....|hole|..data..]   -> the comparison names the byte
//! ```

use rep_tests::compare::first_difference;
use rep_tests::random::Random;
use rep_tests::scratch::{Place, Scratch, sparse_file};
use std::fs::File;
use std::os::unix::fs::FileExt;

#[test]
fn a_flipped_byte_is_found() {
    let scratch = Scratch::new(Place::Disk);
    let [one, other] = ["one", "other"].map(|name| scratch.path().join(name));
    let mut data = vec![0; 3 << 20];
    Random::new(7).fill(&mut data);
    for path in [&one, &other] {
        sparse_file(path, 4 << 30);
        let file = File::options().write(true).open(path).expect("the file");
        file.write_all_at(&data, 1 << 20).expect("data");
        file.write_all_at(&data, (4 << 30) - (3 << 20)).expect("data at the end");
    }
    assert_eq!(first_difference(&one, &other, 4 << 30), None);
    for at in [(1 << 20) + 4097, (4_u64 << 30) - 1] {
        let file = File::options().read(true).write(true).open(&other).expect("the file");
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).expect("a byte");
        file.write_all_at(&[byte[0] ^ 1], at).expect("flipped");
        assert_eq!(first_difference(&one, &other, 4 << 30), Some(at));
        file.write_all_at(&byte, at).expect("flipped back");
    }
}

#[test]
fn a_byte_where_the_other_has_a_hole_is_found() {
    let scratch = Scratch::new(Place::Disk);
    let [one, other] = ["one", "other"].map(|name| scratch.path().join(name));
    sparse_file(&one, 64 << 30);
    sparse_file(&other, 64 << 30);
    File::options().write(true).open(&other).expect("the file").write_all_at(&[1], 40 << 30).expect("a byte");
    assert_eq!(first_difference(&one, &other, 64 << 30), Some(40 << 30));
}
