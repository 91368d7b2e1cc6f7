package gateway

import "testing"

func TestAnEndMayComeBeforeItsHead(t *testing.T) {
	g, _ := newGateway(t, oneKey())
	x, refused := g.Admit(t.Context(), call("k", hello))
	if refused != nil {
		t.Fatal(refused)
	}
	defer x.End()
	if g.Early(x.ID()) || g.Early("nobody's") {
		t.Error("an answer that weir reads itself is waited for")
	}
	x.native, x.parting.begun = true, make(chan struct{})
	if !g.Early(x.ID()) {
		t.Error("the head is not here")
	}
	close(x.parting.begun)
	if g.Early(x.ID()) {
		t.Error("the head is here")
	}
	x.native = false // it has no script that would tell
}
