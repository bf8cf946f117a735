package control

import (
	"testing"

	"opendfs/internal/control/controlpb"

	"google.golang.org/protobuf/proto"
)

func TestNamesThatAreNoTextAreSent(t *testing.T) {
	reply := &controlpb.StatusReply{Findings: []*controlpb.Finding{{Object: "docs:a\xffb", Detail: "fine"}}}
	mend(reply.ProtoReflect())
	if _, err := proto.Marshal(reply); err != nil {
		t.Fatal(err)
	}
	if f := reply.Findings[0]; f.Object != "docs:a\uFFFDb" || f.Detail != "fine" {
		t.Fatalf("finding is now %v", f)
	}
}
