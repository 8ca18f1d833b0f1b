// Says, with etcd's own raft library, whether a cluster has a quorum before and after a change of its membership.
//
// A line of JSON in, a line of JSON out: the voters and learners by number, who answers, the change and its target.
package main

import (
	"bufio"
	"encoding/json"
	"os"

	"go.etcd.io/raft/v3/confchange"
	"go.etcd.io/raft/v3/quorum"
	pb "go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
)

type question struct {
	Voters   []uint64 `json:"voters"`
	Learners []uint64 `json:"learners"`
	Answers  []uint64 `json:"answers"`
	Change   string   `json:"change"`
	Target   uint64   `json:"target"`
}

type answer struct {
	Before bool   `json:"before"`
	After  bool   `json:"after"`
	Error  string `json:"error,omitempty"`
}

var changes = map[string]pb.ConfChangeType{
	"announce": pb.ConfChangeAddLearnerNode,
	"promote":  pb.ConfChangeAddNode,
	"remove":   pb.ConfChangeRemoveNode,
}

func apply(state tracker.ProgressTracker, kind pb.ConfChangeType, id uint64) (tracker.ProgressTracker, error) {
	changer := confchange.Changer{Tracker: state, LastIndex: 10}
	config, progress, err := changer.Simple(pb.ConfChangeSingle{Type: kind, NodeID: id})
	state.Config, state.Progress = config, progress
	return state, err
}

func votes(config tracker.Config, answers []uint64) bool {
	said := map[uint64]bool{}
	for id := range config.Voters.IDs() {
		said[id] = false
	}
	for _, id := range answers {
		said[id] = true
	}
	return config.Voters.VoteResult(said) == quorum.VoteWon
}

func judge(asked question) (result answer) {
	state := tracker.MakeProgressTracker(10, 0)
	var err error
	for _, id := range asked.Voters {
		if state, err = apply(state, pb.ConfChangeAddNode, id); err != nil {
			return answer{Error: err.Error()}
		}
	}
	for _, id := range asked.Learners {
		if state, err = apply(state, pb.ConfChangeAddLearnerNode, id); err != nil {
			return answer{Error: err.Error()}
		}
	}
	result.Before = votes(state.Config, asked.Answers)
	if asked.Change == "pause" {
		rest := []uint64{}
		for _, id := range asked.Answers {
			if id != asked.Target {
				rest = append(rest, id)
			}
		}
		result.After = votes(state.Config, rest)
		return result
	}
	// raft itself refuses a configuration without voters.
	if state, err = apply(state, changes[asked.Change], asked.Target); err != nil {
		result.Error = err.Error()
		return result
	}
	result.After = votes(state.Config, asked.Answers)
	return result
}

func main() {
	input := bufio.NewScanner(os.Stdin)
	output := bufio.NewWriter(os.Stdout)
	defer output.Flush()
	encoder := json.NewEncoder(output)
	for input.Scan() {
		var asked question
		if err := json.Unmarshal(input.Bytes(), &asked); err != nil {
			panic(err)
		}
		if err := encoder.Encode(judge(asked)); err != nil {
			panic(err)
		}
	}
}
