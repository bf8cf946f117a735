package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"opendfs/internal/control"
	"opendfs/internal/control/controlpb"
	"opendfs/internal/directory"

	"github.com/spf13/cobra"
)

// The times of the demonstration.
const (
	demoStart = 15 * time.Second // for a member to answer
	demoSync  = 60 * time.Second // for the sample tree
	demoStop  = 8 * time.Second  // for a member to end
)

func demoCommand(*options) *cobra.Command {
	var dir string
	var keep bool
	c := &cobra.Command{
		Use:   "demo",
		Short: "two members on this machine, with folders to play with; needs no root",
		Long: strings.TrimSpace(`
Makes a domain of two members on loopback, each a process of its own with a
folder, fills the first with a sample tree and replicates it. Then it shows what
happens, until Ctrl-C: create, change, rename and delete files in either folder.

Everything lies in one directory, a temporary one that is removed at the end,
unless --keep or --dir says otherwise. A directory of an earlier demonstration
is taken up again.`),
		Example: "  dfs demo\n  dfs demo --dir /tmp/demo",
		Args:    none,
		RunE: does(func(c *cobra.Command, _ []string) error {
			d, err := newDemo(dir, keep, c.OutOrStdout())
			if err != nil {
				return err
			}
			err = d.run(c.Context())
			if c.Context().Err() != nil {
				err = nil // Ctrl-C is how it ends
			}
			return errors.Join(err, d.end())
		}),
	}
	c.Flags().StringVar(&dir, "dir", "", "where everything lies; kept at the end")
	c.Flags().BoolVar(&keep, "keep", false, "do not remove the temporary directory at the end")
	return c
}

// demoFolder is what the demonstration replicates.
const demoFolder = "demo/docs"

// demo is a domain of two members on this machine.
type demo struct {
	dir     string
	keep    bool
	out     io.Writer
	members []*demoMember // hub and branch
}

// demoMember is one of them.
type demoMember struct {
	name    string
	state   string
	folder  string
	address string
	log     string
	process *exec.Cmd
	ended   chan struct{} // closed when the process has
	client  *control.Client
}

func newDemo(dir string, keep bool, out io.Writer) (*demo, error) {
	var err error
	if dir == "" {
		dir, err = os.MkdirTemp("", "dfs-demo-")
	} else {
		keep = true
		if dir, err = filepath.Abs(dir); err == nil {
			err = os.MkdirAll(dir, 0o755)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("make the demonstration's directory: %w", err)
	}
	d := &demo{dir: dir, keep: keep, out: out}
	for _, name := range []string{"hub", "branch"} {
		at := filepath.Join(dir, name)
		state := filepath.Join(at, "state")
		d.members = append(d.members, &demoMember{
			name: name, state: state, folder: filepath.Join(at, "docs"), log: filepath.Join(at, "log"), client: control.NewClient(socketOf(state)),
		})
	}
	return d, nil
}

// run sets the domain up, or takes it up again, and shows it until ctx ends.
func (d *demo) run(ctx context.Context) error {
	hub, branch := d.members[0], d.members[1]
	_, err := os.Stat(filepath.Join(branch.state, "domain.copy"))
	fresh := errors.Is(err, os.ErrNotExist)
	if fresh {
		fmt.Fprintf(d.out, "Setting up two members in %s\n", d.dir)
		if err := d.initHub(); err != nil {
			return err
		}
	}
	if err := hub.serve(ctx); err != nil {
		return err
	}
	if fresh {
		if err := d.inviteBranch(ctx); err != nil {
			return err
		}
	}
	if err := branch.serve(ctx); err != nil {
		return err
	}
	v := newDemoView(d)
	if err := v.sync(ctx); err != nil {
		return err
	}
	v.welcome()
	return v.follow(ctx)
}

// initHub does what `dfs init` does, and makes the folders.
func (d *demo) initHub() error {
	hub, branch := d.members[0], d.members[1]
	var err error
	if hub.address, err = freeAddress(); err != nil {
		return err
	}
	if branch.address, err = freeAddress(); err != nil {
		return err
	}
	if err := makeSample(hub.folder, branch.folder); err != nil {
		return fmt.Errorf("make the sample tree: %w", err)
	}
	_, err = initDomain(hub.state, newDomain{"demo", hub.name, []string{hub.address}, []string{hub.address}, time.Now()})
	return err
}

// freeAddress finds a port of loopback that nobody has now.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port on loopback: %w", err)
	}
	return l.Addr().String(), l.Close()
}

// inviteBranch does what `dfs invite`, `dfs apply` and `dfs join` do.
func (d *demo) inviteBranch(ctx context.Context) error {
	hub, branch := d.members[0], d.members[1]
	invitation, err := hub.client.Invite(ctx, &controlpb.InviteRequest{Server: branch.name})
	if err != nil {
		return err
	}
	text, err := d.document()
	if err != nil {
		return err
	}
	if _, err := hub.client.Apply(ctx, &controlpb.ApplyRequest{Document: text, Filename: []byte("domain.yaml")}); err != nil {
		return err
	}
	_, _, err = joinDomain(ctx, &options{state: branch.state}, invitation.Token, []string{branch.address})
	return err
}

// document is the domain with the folder in it.
func (d *demo) document() ([]byte, error) {
	hub, branch := d.members[0], d.members[1]
	text, err := os.ReadFile(filepath.Join(hub.state, "domain.yaml"))
	if err != nil {
		return nil, fmt.Errorf("read the demonstration's domain: %w", err)
	}
	doc, err := directory.Read(text, "domain.yaml")
	if err != nil {
		return nil, err
	}
	next := doc.Domain.Clone()
	next.ServerByName(branch.name).Listen = []string{branch.address}
	folder := directory.NewFolder("docs")
	primary := directory.NewMembership(hub.name, hub.folder)
	primary.Primary = true
	folder.Members = []*directory.Membership{primary, directory.NewMembership(branch.name, branch.folder)}
	next.Groups = append(next.Groups, &directory.Group{Name: "demo", Folders: []*directory.Folder{folder}})
	out, err := doc.With(next)
	if err != nil {
		return nil, err
	}
	return out.Text(), nil
}

// serve starts the member's process and returns when it answers.
func (m *demoMember) serve(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	log, err := os.OpenFile(m.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the log of %s: %w", m.name, err)
	}
	defer log.Close()
	m.process = exec.Command(self, "serve", "--state", m.state, "--metrics", "off")
	m.process.Stderr = log
	// Of a process group of its own: Ctrl-C is for us, we then stop it.
	m.process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := m.process.Start(); err != nil {
		return fmt.Errorf("start member %s: %w", m.name, err)
	}
	m.ended = make(chan struct{})
	go func() {
		defer close(m.ended)
		_ = m.process.Wait() // how it ended is in its log
	}()
	ctx, cancel := context.WithTimeout(ctx, demoStart)
	defer cancel()
	for {
		if _, err := m.client.Status(ctx); err == nil {
			return nil
		}
		select {
		case <-m.ended:
			return control.Hint(fmt.Errorf("member %s has ended: %s", m.name, lastLine(m.log)), "its log is "+m.log)
		case <-ctx.Done():
			return control.Hint(fmt.Errorf("member %s does not answer", m.name), "its log is "+m.log)
		case <-time.After(waitPoll):
		}
	}
}

// lastLine is the end of a log.
func lastLine(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return lines[len(lines)-1]
}

// end stops both members and removes what is not to stay.
func (d *demo) end() error {
	for _, m := range d.members {
		if m.process != nil && m.process.Process != nil {
			_ = m.process.Process.Signal(syscall.SIGTERM) // it may have ended already
		}
	}
	deadline := time.After(demoStop)
	for _, m := range d.members {
		if m.ended == nil {
			continue
		}
		select {
		case <-m.ended:
		case <-deadline:
			_ = m.process.Process.Kill()
			<-m.ended
		}
	}
	if d.keep {
		fmt.Fprintf(d.out, "\nBoth members are stopped. Everything is still in %s; go on with: dfs demo --dir %s\n", d.dir, d.dir)
		return nil
	}
	fmt.Fprintf(d.out, "\nBoth members are stopped. Removing %s (--keep would have left it).\n", d.dir)
	return os.RemoveAll(d.dir)
}
