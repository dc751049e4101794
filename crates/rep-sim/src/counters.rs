//! The rare states a range of seeds should have reached: a state never reached is a hole in the simulator.

use rep_types::SyncRule;

macro_rules! sometimes {
    ($($name:ident = $text:literal,)*) => {
        /// A rare state.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[allow(missing_docs)] // the text beside each says it
        #[repr(usize)]
        pub enum Sometimes { $($name,)* }

        const NAMES: &[&str] = &[$($text,)*];
    };
}

sometimes! {
    WriteAnswered = "write answered",
    FlushAnswered = "flush answered",
    FlushFoundNothing = "flush answered at once",
    WrittenThrough = "write written through where clients use FUA",
    ThroughByHabit = "write written through where they don't: its flush is expected",
    PromisedWrite = "write answered to clients who were told of no volatile cache",
    PromisedWithCache = "the same, beside a disk that says that it has one",
    PromisedForwarded = "the same, forwarded",
    PromiseTakenOver = "device without a volatile cache taken over",
    ReadJudged = "read judged",
    ZeroAnswered = "zero answered",
    RequestFailed = "request answered with an error",
    RequestOrphaned = "request in flight at a crash",
    Eviction = "extent left the activity log",
    HotAtCrash = "extents hot at a crash",
    MetaTorn = "metadata write torn",
    DataTorn = "data write torn",
    CacheLost = "unflushed data lost with a cache",
    UnflushedLost = "answered writes legally lost",
    FsyncFailed = "fsync failed",
    LostShown = "read what a failed fsync had lost",
    DiskFault = "disk fault injected",
    CrashRecovered = "crashed Primary recovered",
    ResyncStarted = "resync started",
    ResyncFinished = "resync finished",
    ResyncInterrupted = "resync interrupted",
    SplitBrain = "split brain detected",
    Forked = "lineage forked by force",
    RemoteRead = "read served by the peer",
    ResyncZeroes = "resync of zeroes",
    ResyncRuns = "resync of a range without its zeroes",
    RunsLanded = "range without its zeroes made by several disk operations",
    RunsLinkLost = "link lost with such a range half on the disk",
    RunsDied = "daemon or node died with such a range half on the disk",
    RunsFailed = "disk failed with such a range half on it",
    ResyncRefused = "resync block refused",
    ResyncYielded = "resync slowed down for clients",
    ResyncRecovered = "resync faster again after it was slowed down",
    ResyncAtItsLeast = "resync slowed down to its least rate",
    ResyncMeasured = "resync stood still to measure what clients wait without it",
    ComparedEqual = "compared and found equal",
    ComparedDifferent = "compared and found different",
    ComparedMeetsWrite = "a write came while a range was compared",
    DiskLostUnderPrimary = "disk lost under a Primary",
    PeerDiskLostInHandshake = "peer's disk lost in the middle of a handshake",
    NegativeAck = "negative acknowledgement",
    DecisionRefused = "handshake refused",
    LinkReplaced = "connection replaced",
    StaleFrame = "frame of an old session seen",
    FrameInPieces = "frame arrived in pieces",
    FrameCutShort = "frame cut short by the end of its connection",
    WireCorrupted = "frame changed, lost or repeated on the wire",
    CorruptionFound = "corruption dropped the link",
    MetaRotted = "metadata rotted at rest",
    DamageFound = "damaged log or bitmap found",
    MetaLost = "metadata lost and made anew",
    RolledBack = "old metadata put back",
    RolledBackWithData = "old data put back with their metadata",
    PingTimeout = "ping timeout",
    DiskStalled = "peer's disk stalled",
    DiskTimedOut = "own disk given up for its silence",
    DiskTimedOutUnderPrimary = "own disk given up for its silence under a Primary",
    DetachedByForce = "disk let go of by force with operations under way",
    DetachAbandoned = "disk let go of as it was, nobody waited any more",
    AttachedTooEarly = "attach refused, operations of the last attachment under way",
    PrimaryWasTarget = "Primary while resync target",
    Reinstalled = "node reinstalled",
    PromoteRefused = "promotion refused",
    PromoteRefusedApart = "promotion refused in a split brain",
    CommandRefused = "command refused",
    CommandAbandoned = "command abandoned",
    Outdated = "outdated by the operator",
    OutdatedInconsistent = "an Inconsistent disk outdated by the operator",
    VerifyFinished = "verify finished",
    VerifyInterrupted = "verify interrupted",
    VerifyResumed = "verify gone on with where it was left",
    VerifyHeldWrite = "client's write held back by a verify",
    LossTold = "flush failed after the only cache died, clients told",
    LossToldThere = "flush failed after the only cache died, clients of the peer told as well",
    DataPlanted = "data changed behind the engines",
    VerifyFound = "verify found what was changed",
    VerifyOverwritten = "changed data overwritten by a client unfound",
    VerifyMendedMeanwhile = "what a verify found made equal before its end",
    VerifyMended = "what a verify found made equal",
    VerifyRepaired = "verify's repair begun",
    Archived = "victim archived before it was overwritten",
    ArchiveFailed = "archive failed",
    ArchiveDropped = "archive given up half-way",
    Resized = "volume grown on command",
    Grown = "larger device offered to clients",
    GrownUnderPrimary = "device grew while it was offered",
    GrownAlone = "open device grew as the role came to its node alone",
    GrownByOne = "crash while one node remembered a larger size",
    NotGrown = "growing refused, a disk had no room",
    BlocksDiffer = "clients served by disks with blocks of different sizes",
    BlocksRefused = "a disk refused for its blocks",
    BlocksGrown = "a volume's blocks made larger",
    DemoteWhileOpen = "demotion refused while open",
    FenceAsked = "fence-peer handler asked",
    FenceFailed = "fence-peer handler came to nothing",
    FenceOutdated = "peer outdated by the handler",
    FenceOutdatedInPart = "peer outdated by the handler, one of whose disks wasn't attached",
    FenceKilled = "peer taken down by the handler",
    FenceHeld = "clients waited for the peer to be fenced",
    PromotedAfterFence = "promoted without the peer, which was fenced",
    LastWordLost = "a handshake's last word lost with the link",
    Unfenced = "a fenced peer followed again",
    ReadErrorPassedOn = "a read error of the only good disk passed on",
    WriteErrorPassedOn = "a write error of the only good disk passed on",
    WriteErrorBesideTarget = "a write error of a resync's source passed on",
    ReadErrorOfSource = "a read error of a resync's source passed on",
    ResyncAsked = "before-resync-target handler asked",
    ResyncNotAllowed = "before-resync-target handler said no",
    NewerDiskComes = "a disk that is ahead came beside a peer that was to be Primary",
    PrimaryIsBehind = "a Primary's data found older than its peer's",
    NoDataWaits = "clients waited for good data",
    NoDataServed = "a request that waited for good data answered well",
    NoDataFailed = "a request that waited for good data failed by the operator's word",
    BackAlone = "a disk came back to a Primary whose peer is gone",
    HandedOver = "role handed over under an open device",
    HandoverFailed = "handover failed, the node is Primary still or again",
    HandoverCancelled = "handover given up half-way",
    HandoverCutShort = "link lost while a handover was under way",
    HandoverDied = "daemon died while handing over",
    HandoverTakenOverDied = "daemon died while the role came to it",
    HandoverUndone = "a role that was given came back, for the peer could not have it",
    HandoverUnknown = "nobody knows whether a role that was given has come",
    ForwarderServiced = "a disk taken away beside the device that forwards",
    ForwardInDoubt = "forwarded writes failed, for the Primary has forgotten",
    ForwardedPast = "Primary went on alone while its peer's clients wait",
    ForwardingBegun = "requests forwarded to a new Primary",
    ForwardingClosed = "device closed that forwarded",
    ForwardedWrite = "forwarded write answered",
    ForwardedRead = "forwarded read answered",
    ForwardedFlush = "forwarded flush answered",
    ForwardedError = "forwarded request failed",
    ForwardedAgain = "forwarded request sent again",
    ForwardResumed = "a Primary remembered what it was asked",
    ForwardRecalled = "results told that a connection had taken",
    ForwardsTakenBack = "a forwarder took the role with requests unanswered",
    ClientsOnBoth = "clients at work on both nodes",
    TwoPrimaries = "two Primaries at once",
    Healed = "converged at the end",
}

/// How often each state was reached, and some totals.
#[derive(Clone, Debug)]
pub struct Counters {
    states: Vec<u64>,
    rules: Vec<u64>,
    /// Events handled by engines.
    pub events: u64,
    /// Simulated nanoseconds.
    pub simulated_ns: u64,
}

impl Default for Counters {
    fn default() -> Self {
        Counters { states: vec![0; NAMES.len()], rules: vec![0; SyncRule::ALL.len()], events: 0, simulated_ns: 0 }
    }
}

impl Counters {
    /// Counts a state.
    pub fn seen(&mut self, state: Sometimes) {
        self.states[state as usize] += 1;
    }

    /// How often a state was reached.
    pub fn count(&self, state: Sometimes) -> u64 {
        self.states[state as usize]
    }

    /// Counts a rule of the decision table.
    pub fn rule(&mut self, rule: SyncRule) {
        if let Some(at) = SyncRule::ALL.iter().position(|known| *known == rule) {
            self.rules[at] += 1;
        }
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Counters) {
        for (mine, theirs) in self.states.iter_mut().zip(&other.states) {
            *mine += theirs;
        }
        for (mine, theirs) in self.rules.iter_mut().zip(&other.rules) {
            *mine += theirs;
        }
        self.events += other.events;
        self.simulated_ns += other.simulated_ns;
    }

    /// Name and count of each.
    pub fn rows(&self) -> Vec<(String, u64)> {
        let states = NAMES.iter().zip(&self.states).map(|(name, count)| ((*name).to_owned(), *count));
        let rules = SyncRule::ALL.iter().zip(&self.rules).map(|(rule, count)| (format!("rule {rule}"), *count));
        states.chain(rules).collect()
    }
}
