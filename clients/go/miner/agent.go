package miner

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"sync"
	"time"

	"aitbc"
	aitbcv1 "aitbc/v1"
)

// mostAhead is how far a coordinator may be ahead of what it was ever sent.
const mostAhead = 100_000

// agent holds the leases and runs their jobs. It outlives the sessions with the coordinator: it is told
// what the coordinator said and asked what to say, and does no I/O.
type agent struct {
	miner  *Miner
	engine Engine
	hello  *aitbcv1.Hello
	signer *signer
	// wake has an item when there may be something to say.
	wake chan struct{}

	mu     sync.Mutex
	leases map[string]*lease
	outbox outbox
	// capacity is the window; isToldOf says whether the coordinator knows.
	capacity       int32
	isCapacityTold bool
	// idle is closed when it drains and holds nothing.
	idle       chan struct{}
	isDraining bool
	// mostResult is the largest answer that the coordinator takes, in bytes.
	mostResult int
}

func newAgent(m *Miner, engine Engine) *agent {
	slots := m.Slots
	if slots == 0 {
		slots = 1
	}
	version := m.Version
	if version == "" {
		version = Version
	}
	process := make([]byte, 8)
	if _, err := rand.Read(process); err != nil {
		panic("miner: no random numbers: " + err.Error())
	}
	a := &agent{
		miner:  m,
		engine: engine,
		hello: &aitbcv1.Hello{
			MinerId:         m.ID,
			Models:          m.Models,
			GpuInfo:         m.GPU,
			AgentVersion:    version,
			ProcessId:       hex.EncodeToString(process),
			MaxMessageBytes: aitbc.MaxMessageBytes,
			ModelInfos:      m.ModelInfos,
		},
		wake:     make(chan struct{}, 1),
		leases:   make(map[string]*lease),
		outbox:   outbox{mostBytes: defaultMessageBytes},
		capacity: int32(slots), isCapacityTold: true,
		idle:       make(chan struct{}),
		mostResult: defaultMessageBytes,
	}
	if m.Key != nil {
		a.signer = newSigner(m.ID, m.Key, m.PreviousKey)
		a.hello.PublicKey, a.hello.Endorsement = a.signer.publicKey, a.signer.endorsement
	}
	return a
}

func (a *agent) ring() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// What it says.

// greeting begins a session: it names every lease that is held, and proves the key with the nonce.
func (a *agent) greeting(nonce string) *aitbcv1.MinerMessage {
	a.mu.Lock()
	defer a.mu.Unlock()
	// What was not sent is told again, from where the coordinator asks.
	a.outbox.carried = nil
	a.isCapacityTold = true
	hello := &aitbcv1.Hello{
		MinerId: a.hello.MinerId, Models: a.hello.Models, GpuInfo: a.hello.GpuInfo,
		AgentVersion: a.hello.AgentVersion, ProcessId: a.hello.ProcessId,
		MaxMessageBytes: a.hello.MaxMessageBytes, ModelInfos: a.hello.ModelInfos,
		PublicKey: a.hello.PublicKey, Endorsement: a.hello.Endorsement,
		Capacity: &aitbcv1.Capacity{MaxOutstandingJobs: a.capacity},
	}
	if a.signer != nil && nonce != "" {
		hello.Proof = a.signer.prove(nonce)
	}
	for _, held := range a.leases {
		hello.HeldLeases = append(hello.HeldLeases, &aitbcv1.HeldLease{LeaseId: held.id, NextSequence: held.next()})
	}
	return &aitbcv1.MinerMessage{Message: &aitbcv1.MinerMessage_Hello{Hello: hello}}
}

// message returns what is due to be said, or nil and for how long nothing will be. That is negative when
// only news change it.
func (a *agent) message(now time.Time) (*aitbcv1.MinerMessage, time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.isCapacityTold {
		a.isCapacityTold = true
		capacity := &aitbcv1.Capacity{MaxOutstandingJobs: a.capacity}
		return &aitbcv1.MinerMessage{Message: &aitbcv1.MinerMessage_Capacity{Capacity: capacity}}, 0
	}
	updates, wait := a.outbox.take(now, func(one *lease) { a.end(one, resultTooLarge) })
	if len(updates) == 0 {
		return nil, wait
	}
	news := &aitbcv1.Updates{Updates: updates, Load: a.load()}
	if a.signer != nil {
		a.signer.sign(news, func(leaseID string) string { return a.leases[leaseID].jobID })
	}
	return &aitbcv1.MinerMessage{Message: &aitbcv1.MinerMessage_Updates{Updates: news}}, 0
}

// heartbeat is what is said when there is nothing to say.
func (a *agent) heartbeat() *aitbcv1.MinerMessage {
	a.mu.Lock()
	defer a.mu.Unlock()
	beat := &aitbcv1.Heartbeat{Load: a.load()}
	return &aitbcv1.MinerMessage{Message: &aitbcv1.MinerMessage_Heartbeat{Heartbeat: beat}}
}

func (a *agent) load() *aitbcv1.Load {
	running := int32(a.unfinished())
	return &aitbcv1.Load{RunningJobs: &running}
}

func (a *agent) unfinished() int {
	count := 0
	for _, held := range a.leases {
		if !held.isEnded() {
			count++
		}
	}
	return count
}

// What it hears.

// welcome learns how its leases stand: it drops lost ones, and tells again what was not stored.
func (a *agent) welcome(welcome *aitbcv1.Welcome) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.outbox.mostBytes = defaultMessageBytes
	if most := welcome.GetMaxMessageBytes(); most > 0 {
		a.outbox.mostBytes = int(most)
	}
	a.mostResult = a.outbox.mostBytes
	if most := welcome.GetMaxResultBytes(); most > 0 {
		a.mostResult = int(most)
	}
	if a.signer != nil {
		a.signer.agree(welcome.GetStatementVersion())
	}
	for _, id := range welcome.GetLostLeaseIds() {
		a.drop(id)
	}
	for _, ack := range welcome.GetAcks() {
		held, next := a.leases[ack.GetLeaseId()], ack.GetNextSequence()
		switch {
		case held == nil:
		case next < 0 || next > held.next()+mostAhead:
			a.miner.logf("lease %s: the coordinator asks for update %d of %d", held.id, next, held.next())
			a.drop(held.id)
		case held.isSettledBy(next):
			a.drop(held.id)
		case held.rewind(next):
			a.put(held, true)
		}
	}
}

// hear takes in work, acknowledgements and cancellations.
func (a *agent) hear(message *aitbcv1.CoordinatorMessage) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, assignment := range message.GetAssignments().GetAssignments() {
		// Else a repetition.
		if a.leases[assignment.GetLeaseId()] == nil {
			a.begin(assignment)
		}
	}
	for _, ack := range message.GetAcks().GetAcks() {
		if held := a.leases[ack.GetLeaseId()]; held != nil && held.isSettledBy(ack.GetNextSequence()) {
			a.drop(held.id)
		}
	}
	for _, cancellation := range message.GetCancellations().GetCancellations() {
		a.cancel(cancellation)
	}
}

func (a *agent) begin(assignment *aitbcv1.Assignment) {
	ctx, cancel := context.WithCancel(context.Background())
	job := &Job{Job: assignment.GetJob(), Attempt: int(assignment.GetAttempt())}
	if assignment.GetDeadline() != nil {
		job.Deadline = assignment.GetDeadline().AsTime()
	}
	held := &lease{
		id: assignment.GetLeaseId(), jobID: job.GetJobId(), cancel: cancel, resume: assignment.GetResume(),
	}
	isFull := a.unfinished() >= max(a.miner.Slots, 1)
	a.leases[held.id] = held
	switch {
	case !a.serves(job.GetModel()):
		a.end(held, notServed)
	case isFull:
		a.end(held, overCapacity)
	default:
		go a.run(ctx, held, job)
	}
}

func (a *agent) serves(model string) bool {
	for _, served := range a.miner.Models {
		if served == model {
			return true
		}
	}
	return false
}

func (a *agent) cancel(cancellation *aitbcv1.Cancellation) {
	held := a.leases[cancellation.GetLeaseId()]
	switch reason := cancellation.GetReason(); {
	case held == nil:
	case reason == aitbcv1.CancelReason_CANCEL_REASON_REQUESTED:
		a.end(held, cancelled)
	default:
		if reason == aitbcv1.CancelReason_CANCEL_REASON_SIGNATURE_REFUSED ||
			reason == aitbcv1.CancelReason_CANCEL_REASON_ANSWER_REFUSED {
			a.miner.logf("lease %s: %v", held.id, reason)
		}
		a.drop(held.id)
	}
}

// drop forgets a lease, whatever became of it.
func (a *agent) drop(id string) {
	if held := a.leases[id]; held != nil {
		held.cancel()
		a.outbox.discard(held)
		delete(a.leases, id)
	}
	a.settle()
}

// How it ends.

// drain takes nothing new from now on, and returns what is closed when nothing is held any more.
func (a *agent) drain() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.isDraining = true
	a.capacity, a.isCapacityTold = 0, false
	a.ring()
	a.settle()
	return a.idle
}

func (a *agent) settle() {
	if !a.isDraining || len(a.leases) > 0 {
		return
	}
	select {
	case <-a.idle:
	default:
		close(a.idle)
	}
}

// handBack fails every job that still runs, for another attempt; it says whether there was one.
func (a *agent) handBack() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	count := a.unfinished()
	for _, held := range a.leases {
		a.end(held, stopped)
	}
	return count > 0
}

// abandon stops every job, of a miner that is none any more.
func (a *agent) abandon() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id := range a.leases {
		a.drop(id)
	}
}

// end ends a lease without an answer, unless it has ended: an answer that is complete wins.
func (a *agent) end(held *lease, why *Failure) {
	if held.isEnded() || a.leases[held.id] != held {
		return // an engine complains of having been stopped
	}
	held.cancel()
	held.fail(why)
	a.put(held, true)
}

func (a *agent) put(held *lease, isUrgent bool) {
	a.outbox.put(held, isUrgent)
	a.ring()
}

func max(a, b int) int {
	if a > b {
		return a
	}
	return b
}
