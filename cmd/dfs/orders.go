package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"opendfs/internal/control"
	"opendfs/internal/control/controlpb"
	"opendfs/internal/directory"
)

// The verbs of standing orders.
const (
	verbPause   = "pause"
	verbSyncNow = "sync-now"
	verbResume  = "resume"
)

const (
	ordersName = "orders.json"
	maxOrders  = 4096
)

// order is a pause or a sync-now of this member. It outlives a restart.
type order struct {
	Verb   string    `json:"verb"`
	Object string    `json:"object"` // GROUP, GROUP/FOLDER, FROM->TO; empty: all
	Until  time.Time `json:"until"`  // zero: until it is taken back
}

// covers reports whether an order is about a folder's connection.
func (o *order) covers(group, folder, from, to string) bool {
	return o.Object == "" || o.Object == group || o.Object == group+"/"+folder || o.Object == from+"->"+to
}

// within reports whether what the order is about is part of object.
func (o *order) within(object string) bool {
	return object == "" || o.Object == object || strings.HasPrefix(o.Object, object+"/")
}

// orderLocked is the order that counts for a connection: the newest.
func (w *windows) orderLocked(group, folder, from, to string) *order {
	for i := len(w.orders) - 1; i >= 0; i-- {
		if w.orders[i].covers(group, folder, from, to) {
			return &w.orders[i]
		}
	}
	return nil
}

func (w *windows) dropExpiredLocked(now time.Time) {
	w.orders = slices.DeleteFunc(w.orders, func(o order) bool { return !o.Until.IsZero() && !now.Before(o.Until) })
}

// readOrders reads the standing orders. A file that cannot be read back keeps a
// member from starting: what was paused must not begin by itself.
func readOrders(path string) ([]order, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var list []order
	if err == nil {
		err = json.Unmarshal(b, &list)
	}
	if err != nil {
		return nil, control.Hint(fmt.Errorf("read standing orders %s: %w", path, err), "remove the file, and give the orders again by `dfs pause`")
	}
	return list, nil
}

// writeOrders replaces the file whole.
func writeOrders(path string, list []order) error {
	b, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return err
	}
	return replaceFile(path, append(b, '\n'))
}

// replaceFile replaces a file of the state directory whole, durably.
func replaceFile(path string, text []byte) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return syncDirectoryOf(path)
}

// syncDirectoryOf makes the name of a file durable.
func syncDirectoryOf(path string) error {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// give adds an order, or takes orders back, and lets it take effect before it
// returns.
func (w *windows) give(o order) error {
	w.mu.Lock()
	list := slices.Clone(w.orders)
	if o.Verb == verbResume {
		list = slices.DeleteFunc(list, func(old order) bool { return old.within(o.Object) })
		if len(list) == len(w.orders) {
			err := w.notOrderedLocked(o.Object)
			w.mu.Unlock()
			return err
		}
	} else {
		list = append(slices.DeleteFunc(list, func(old order) bool { return old.within(o.Object) }), o)
	}
	if len(list) > maxOrders {
		w.mu.Unlock()
		return control.Hint(fmt.Errorf("%s %s: there are %d orders already", o.Verb, o.Object, maxOrders), "take some back by `dfs resume`")
	}
	if err := writeOrders(w.path, list); err != nil {
		w.mu.Unlock()
		return err
	}
	w.orders = list
	w.mu.Unlock()
	w.log.Info("order given", "verb", o.Verb, "object", o.Object, "until", o.Until)
	w.judge(w.clock())
	return nil
}

// notOrderedLocked says why there is nothing to resume.
func (w *windows) notOrderedLocked(object string) error {
	whole := object
	if object == "" {
		whole = "anything"
	}
	hint := "`dfs status` lists what was paused"
	for _, o := range w.orders {
		inside := order{Object: object}
		if inside.within(o.Object) {
			hint = "it is in what was ordered by `dfs " + strings.TrimSpace(o.Verb+" "+orAll(o.Object)) + "`; resume that"
		}
	}
	return control.Hint(fmt.Errorf("resume %s: no order of this server is about it", whole), hint)
}

func orAll(object string) string {
	if object == "" {
		return "--all"
	}
	return object
}

// Order is that of control.Member.
func (m *member) Order(ctx context.Context, req *controlpb.OrderRequest) (*controlpb.OrderReply, error) {
	o := order{Verb: req.Verb}
	usage := func(format string, args ...any) (*controlpb.OrderReply, error) {
		return nil, &control.Problem{Err: fmt.Errorf(format, args...), Usage: true}
	}
	if o.Verb != verbPause && o.Verb != verbSyncNow && o.Verb != verbResume {
		return usage("order %q: it is pause, sync-now or resume", o.Verb)
	}
	if req.Seconds < 0 || req.Seconds > maxOrderFor || o.Verb == verbResume && req.Seconds != 0 || o.Verb == verbSyncNow && req.Seconds == 0 {
		return usage("%s for %d seconds: give a time from a second to a year", o.Verb, req.Seconds)
	}
	object, err := m.orderObject(m.domain().Domain, req.Verb, req.Object)
	if err != nil {
		return nil, err
	}
	what := strings.TrimSpace(o.Verb + " " + orAll(object))
	if err := m.mayOperate(ctx, what, groupOf(object)); err != nil {
		return nil, err
	}
	before := ordersText(m.windows.standing())
	if o.Object = object; req.Seconds > 0 {
		o.Until = time.Now().Round(0).Add(time.Duration(req.Seconds) * time.Second)
	}
	if err := m.windows.give(o); err != nil {
		return nil, err
	}
	standing := m.windows.standing()
	m.record(ctx, event{What: o.Verb, Object: orAll(object), Edits: []auditEdit{{Op: "set", Object: "orders", Before: before, After: ordersText(standing)}}})
	return &controlpb.OrderReply{Orders: reportOrders(standing)}, nil
}

const maxOrderFor = 366 * 24 * 3600

// ordersText is what stands, for the audit log.
func ordersText(list []order) string {
	var words []string
	for _, o := range list {
		text := o.Verb + " " + orAll(o.Object)
		if !o.Until.IsZero() {
			text += " until " + timeText(o.Until)
		}
		words = append(words, text)
	}
	return cut(orDash(strings.Join(words, "; ")))
}

func reportOrders(list []order) []*controlpb.StandingOrder {
	var out []*controlpb.StandingOrder
	for _, o := range list {
		out = append(out, &controlpb.StandingOrder{Verb: o.Verb, Object: o.Object, Until: timeText(o.Until)})
	}
	return out
}

// orderObject checks what an order is about, and says it without @SERVER. What has
// gone from the domain can still be resumed.
func (m *member) orderObject(d *directory.Domain, verb, object string) (string, error) {
	me := d.Server(m.self())
	usage := func(hint, format string, args ...any) (string, error) {
		return "", &control.Problem{Err: fmt.Errorf(format, args...), Hint: hint, Usage: true}
	}
	name, at, isAt := strings.Cut(object, "@")
	if isAt && (me == nil || at != me.Name) {
		return usage("run it on "+at, "%s %s: this server is %s", verb, object, m.id.Name())
	}
	if object == "" || me == nil || verb == verbResume {
		return name, nil
	}
	if from, to, ok := strings.Cut(name, "->"); ok {
		switch {
		case d.ServerByName(from) == nil || d.ServerByName(to) == nil:
			return usage("`dfs connection list` shows them", "%s %s: the domain has no such servers", verb, object)
		case verb == verbSyncNow && to != me.Name, to != me.Name && from != me.Name:
			return usage("run it on "+to, "%s %s: this server is %s", verb, object, me.Name)
		}
		return name, nil
	}
	for _, v := range d.Memberships(m.self()) {
		if v.Group.Name == name || v.Name() == name {
			return name, nil
		}
	}
	return usage("name a GROUP, GROUP/FOLDER or FROM->TO of this server, or --all", "%s %s: this server is no member of it", verb, object)
}
