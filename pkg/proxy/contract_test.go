package proxy

import "testing"

// TestGoroutines is the contract of engines, for the one that is not the default on Linux. Each of
// these tests also runs by itself, and is about the default then. What is not here has no TCP in it.
func TestGoroutines(t *testing.T) {
	tests := []struct {
		name string
		run  func(t *testing.T)
	}{
		{"close orders", TestCloseOrders},
		{"half-open goes on", TestHalfOpenConnectionGoesOn},
		{"late answer after the end", TestEndsUnderLoad},
		{"bytes arrive unchanged", TestBytesArriveUnchanged},
		{"slow reader stops the writer", TestSlowReaderStopsTheWriter},
		{"two descriptors", TestIdleConnectionCostsTwoDescriptors},
		{"what is going on", TestConnectionsTellsWhatIsGoingOn},
		{"nothing is left behind", TestNothingIsLeftBehind},
		{"refused target", TestDialDeadline},
		{"target that appears", TestDialSucceedsOnceTheTargetListens},
		{"dial again", TestDialIsTriedAgain},
		{"switch aborts a dial", TestSwitchAbortsDial},
		{"switch leaves others alone", TestSwitchLeavesOpenConnectionsAlone},
		{"switch under load", TestSwitchUnderLoad},
		{"held", TestHeldConnectionsGoToTheTargetThatAppears},
		{"end of hold", TestHoldEnds},
		{"bound of hold", TestHoldMaxRefusesTheNext},
		{"leaves while held", TestClientLeavesWhileHeld},
		{"said all while held", TestHeldClientThatSaidAll},
		{"hold races switch", TestHoldRacesSwitch},
		{"listener goes while holding", TestListenerClosedWhileHolding},
		{"cut", TestCutAllAtOnce},
		{"cut at a rate", TestCutAtARate},
		{"cut politely", TestCutTakesSilentConnectionsFirstAndPolitely},
		{"cut while dialling", TestCutWhileDialling},
		{"shutdown", TestShutdown},
		{"close with everything under way", TestCloseWithEverythingUnderWay},
		{"socket stays", TestSocketStays},
		{"random connections", TestRandomConnections},
		{"bounds", TestBoundsOfAListener},
		{"silence", TestSilentConnectionsEnd},
		{"PROXY protocol", TestProxyProtocol},
		{"server names", TestServerNames},
		{"silent among server names", TestSilentClientAmongServerNames},
		{"server speaks first", TestServerSpeaksFirst},
		{"urgent data", TestUrgentData},
		{"urgent data within bulk", TestUrgentDataWithinBulk},
		{"pending when handed over", TestAdoptedFromLoops},
		{"measures", TestMeasuresOfTCP},
		{"measures of what cannot be reached", TestMeasuresOfWhatCannotBeReached},
	}
	for _, tt := range tests {
		t.Run(tt.name, tt.run)
	}
}
