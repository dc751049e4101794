//! ```text
//!   namespace a: nbdinfo ---veth---> namespace b: nbdkit     answers
//!   namespace a: nbdinfo ---  X ---> namespace b: nbdkit     doesn't, however the link was cut
//!   namespace a: nbdinfo ---veth---> namespace b: nbdkit     healed: answers
//! ```

use rep_tests::net::{Cut, Network, NetworkKind};
use rep_tests::process::Running;
use rep_tests::scratch::{Place, Scratch};
use rep_tests::tools::{self, root_or_not_run};
use std::time::Duration;

#[test]
fn every_cut_of_the_link_cuts_and_heals() {
    if !root_or_not_run("cutting a link between two namespaces") {
        return;
    }
    let scratch = Scratch::new(Place::Tmpfs);
    let network = Network::new(NetworkKind::Namespaces);
    let [a, b] = [0, 1].map(|node| network.namespace(node).expect("a namespace"));
    let mut server = tools::server("ip");
    server.args(["netns", "exec", &b, "nbdkit", "-f", "--port", "10809", "memory", "1M"]);
    let _server = Running::start(server, "nbdkit", &scratch.path().join("log"));
    let ask = |seconds| {
        let line = ["netns", "exec", &a, "nbdinfo", "--size", "nbd://192.168.255.2:10809"];
        tools::run("ip", line, Duration::from_secs(seconds)).code
    };
    let answers = || rep_tests::wait::until_true("the server answers", Duration::from_secs(20), || ask(2) == 0);
    answers();
    for cut in [Cut::Both, Cut::ToAlpha, Cut::ToBeta, Cut::Reset, Cut::LinkDown] {
        network.cut(cut);
        assert_ne!(ask(1), 0, "{cut:?} cut nothing");
        network.heal();
        answers();
    }
}
