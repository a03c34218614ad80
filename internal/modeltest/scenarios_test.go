package modeltest

func update(r relID) command { return command{status: isReady, release: r} }

func says(w word) command { return command{word: w} }

var (
	stop = command{status: isStopped, release: 1}
	kill = command{status: isKilled, release: 1}
	none = command{} // the state is deleted
)

var (
	containerFaults = []eventKind{crash, sicken, slow}
	hostFaults      = []eventKind{die, cutOff, lapse}
	allFaults       = []eventKind{crash, sicken, slow, die, cutOff, lapse}
	memoryFaults    = []eventKind{forget, crash, lapse}
)

// How v2 behaves; v1 and v3 are good.
var (
	bad2   = [maxReleases]trait{good, bad}
	sick2  = [maxReleases]trait{good, sick}
	dying2 = [maxReleases]trait{good, dying}
)

var scenarios = []scenario{
	{name: "good update", hosts: 3, slots: 1, script: []command{update(2)}},
	{name: "good update, containers break", hosts: 2, slots: 1, script: []command{update(2)}, faults: 2, kinds: containerFaults, long: true},
	{name: "good update, hosts break", hosts: 2, slots: 1, script: []command{update(2)}, faults: 2, kinds: hostFaults},
	{name: "good update, all breaks", hosts: 2, slots: 1, script: []command{update(2)}, faults: 1, kinds: allFaults},
	{name: "bad update", hosts: 2, slots: 1, traits: bad2, script: []command{update(2)}, faults: 2, kinds: allFaults, long: true},
	{name: "bad update, then a good one", hosts: 2, slots: 1, traits: bad2, script: []command{update(2), update(3)}, faults: 1, kinds: allFaults, long: true},
	{name: "bad update, then the same again", hosts: 2, slots: 1, traits: bad2, script: []command{update(2), update(2)}, faults: 1, kinds: allFaults, long: true},
	{name: "update that sickens", hosts: 2, slots: 1, traits: sick2, script: []command{update(2)}, faults: 1, kinds: allFaults},
	{name: "update that sickens, then a good one", hosts: 2, slots: 1, traits: sick2, script: []command{update(2), update(3)}, faults: 1, kinds: hostFaults, long: true},
	{name: "update that dies in bake", hosts: 2, slots: 1, traits: dying2, script: []command{update(2)}, faults: 2, kinds: allFaults, long: true},
	{name: "update and back", hosts: 2, slots: 1, script: []command{update(2), update(1)}, faults: 1, kinds: allFaults, long: true},
	{name: "daemons start before the store answers", hosts: 2, slots: 1, script: []command{update(2)}, faults: 2, kinds: []eventKind{early, lapse, crash}},
	{name: "daemons start before the store answers, bad update", hosts: 2, slots: 1, traits: bad2, script: []command{update(2)}, faults: 1, kinds: []eventKind{early}},
	{name: "first release", hosts: 2, slots: 1, fresh: true, script: []command{update(1)}, faults: 2, kinds: allFaults},
	{name: "first release is bad", hosts: 2, slots: 1, fresh: true, traits: [maxReleases]trait{bad}, script: []command{update(1), update(2)}, faults: 1, kinds: allFaults},
	{name: "stop and start", hosts: 2, slots: 1, script: []command{stop, update(1)}, faults: 1, kinds: allFaults},
	{name: "kill and update", hosts: 2, slots: 1, script: []command{kill, update(2)}, faults: 1, kinds: allFaults},
	{name: "stop, start, update", hosts: 1, slots: 1, traits: bad2, script: []command{stop, update(1), update(2)}, faults: 2, kinds: allFaults},
	{name: "state is deleted", hosts: 2, slots: 1, script: []command{none, update(2)}, faults: 1, kinds: allFaults},
	{name: "one sickness after another", hosts: 1, slots: 1, faults: 5, kinds: []eventKind{sicken}},
	{name: "old release rots", hosts: 2, slots: 1, script: []command{update(2)}, faults: 2, kinds: []eventKind{rot, die, lapse}},
	{name: "old release rots, bad update, good update", hosts: 1, slots: 1, traits: sick2, script: []command{update(2), update(3)}, faults: 1, kinds: []eventKind{rot}},
	{name: "memory is lost", hosts: 2, slots: 1, script: []command{update(2)}, faults: 2, kinds: memoryFaults, long: true},
	{name: "memory is lost, update that sickens", hosts: 2, slots: 1, traits: sick2, script: []command{update(2), update(1)}, faults: 1, kinds: memoryFaults},
	{name: "pulls", hosts: 2, slots: 1, pulls: true, script: []command{update(2)}, faults: 2, kinds: []eventKind{noPull, die, crash}, long: true},
	{name: "pull fails, then another update", hosts: 2, slots: 1, pulls: true, script: []command{update(2), update(3)}, faults: 1, kinds: []eventKind{noPull}},
	{name: "exclusive", hosts: 2, slots: 1, exclusive: true, script: []command{update(2)}, faults: 2, kinds: allFaults},
	{name: "exclusive, bad update", hosts: 2, slots: 1, exclusive: true, traits: bad2, script: []command{update(2)}, faults: 2, kinds: allFaults},
	{name: "exclusive, update that sickens", hosts: 2, slots: 1, exclusive: true, traits: sick2, script: []command{update(2), update(3)}, faults: 1, kinds: allFaults},
	{name: "exclusive, memory is lost", hosts: 2, slots: 1, exclusive: true, script: []command{update(2)}, faults: 2, kinds: memoryFaults},
	{name: "answers are lost", hosts: 2, slots: 1, script: []command{update(2)}, faults: 2, kinds: []eventKind{deaf, die, crash}},
	{name: "answers are lost, bad update", hosts: 2, slots: 1, traits: bad2, script: []command{update(2), update(1)}, faults: 2, kinds: []eventKind{deaf, crash}, long: true},
	{name: "links come and go", hosts: 2, slots: 1, linked: true, script: []command{update(2)}, faults: 2, kinds: []eventKind{unlink, crash}},
	{name: "links come and go, exclusive", hosts: 2, slots: 1, linked: true, exclusive: true, script: []command{update(2)}, faults: 3, kinds: []eventKind{unlink, crash}},
	{name: "containers take their time", hosts: 1, slots: 1, slowly: true, script: []command{update(2), stop, update(2)}, faults: 1, kinds: allFaults, long: true},
	{name: "containers take their time, two hosts", hosts: 2, slots: 1, slowly: true, script: []command{update(2)}, faults: 1, kinds: []eventKind{crash, die}, long: true},
	{name: "containers take their time, exclusive", hosts: 2, slots: 1, slowly: true, exclusive: true, script: []command{update(2)}, faults: 1, kinds: allFaults},
	{name: "two at a time, bad update, then a good one", hosts: 2, slots: 2, traits: bad2, script: []command{update(2), update(3)}, faults: 1, kinds: []eventKind{lapse}},
	{name: "two at a time, two bad updates", hosts: 2, slots: 2, traits: [maxReleases]trait{good, bad, bad}, script: []command{update(2), update(3)}, faults: 1, kinds: []eventKind{die}, long: true},
	{name: "engines restart", hosts: 2, slots: 1, harmless: true, script: []command{update(2)}, faults: 2, kinds: []eventKind{reboot, die, lapse}},
	{name: "engine restarts, first release", hosts: 2, slots: 1, fresh: true, harmless: true, script: []command{update(1), update(2)}, faults: 2, kinds: []eventKind{reboot}},
	{name: "engine restarts, exclusive", hosts: 1, slots: 1, exclusive: true, harmless: true, slowly: true, script: []command{update(2), stop, update(1)}, faults: 2, kinds: []eventKind{reboot}},
	{name: "three hosts", hosts: 3, slots: 1, script: []command{update(2)}, faults: 1, kinds: []eventKind{die, crash, lapse}},
	{name: "three hosts, bad update, back", hosts: 3, slots: 1, traits: bad2, prompt: true, script: []command{update(2), update(1)}, faults: 1, kinds: allFaults},
	{name: "three hosts, two at a time", hosts: 3, slots: 2, prompt: true, script: []command{update(2)}, faults: 1, kinds: allFaults, long: true},
	{name: "three hosts, two at a time, update that sickens", hosts: 3, slots: 2, traits: sick2, prompt: true, script: []command{update(2), update(1)}, faults: 1, kinds: []eventKind{lapse}},
}
