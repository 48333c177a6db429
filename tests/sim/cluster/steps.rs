//! What happens in a history of several nodes, by chance.

use crate::cluster::fleet::Fleet;
use crate::cluster::fleet::survive;
use crate::server::Go;
use crate::server::Stop;

impl Fleet {
    /// The history itself.
    pub(crate) fn run(&mut self) -> Go {
        for _ in 0..self.world.chance.between(60, 240) {
            let ms = self.world.chance.below(30) as u64;
            self.pass(ms);
            let step = self.step();
            survive(self, step)?;
            self.collect();
        }
        self.rest()
    }

    fn step(&mut self) -> Go {
        let client = self.world.chance.below(self.world.clients.len());
        match self.world.chance.below(106) {
            0..=13 => self.of(client).edit(client),
            14..=15 => self.somewhere().map_or(Ok(()), |world| world.look_at_token()),
            16..=17 => self.of(client).change_presence(client),
            18 => self.of(client).hear_tab(client),
            19 => self.of(client).force(client),
            20..=33 => self.of(client).client_reads(client),
            34..=38 => self.wake(client),
            39..=50 => self.somewhere().map_or(Ok(()), |world| world.server_reads()),
            51..=61 => self.somewhere().map_or(Ok(()), |world| world.server_writes()),
            62..=73 => self.somewhere().map_or(Ok(()), |world| world.turn()),
            74..=84 => self.somewhere().map_or(Ok(()), |world| world.progress()),
            85..=92 => self.hear_bus(),
            93 => self.of(client).disconnect(client),
            94 => self.of(client).rare(client),
            95 => self.somewhere().map_or(Ok(()), |world| world.ask()),
            96 => self.trouble(),
            97 => {
                self.world.fails_in = [0, 0, 20, 2, 1][self.world.chance.below(5)];
                Ok(())
            }
            98 => {
                let ms = self.world.chance.between(100, 20_000) as u64;
                self.pass(ms);
                Ok(())
            }
            99 if self.is_table => {
                if self.somewhere().is_some() {
                    self.put_record();
                }
                Ok(())
            }
            _ => self.all_busy(),
        }
    }

    /// The world, with the server that this client is at.
    fn of(&mut self, client: usize) -> &mut crate::world::World {
        self.go(self.seats[client]);
        &mut self.world
    }

    /// The world, with the server of some node that lives.
    fn somewhere(&mut self) -> Option<&mut crate::world::World> {
        let up: Vec<usize> = (0..self.count()).filter(|&at| self.is_up(at)).collect();
        if up.is_empty() {
            return None;
        }
        let at = up[self.world.chance.below(up.len())];
        self.go(at);
        Some(&mut self.world)
    }

    fn hear_bus(&mut self) -> Go {
        for _ in 0..self.world.chance.between(1, 4) {
            self.deliver();
        }
        Ok(())
    }

    fn trouble(&mut self) -> Go {
        let Some(_) = self.somewhere() else { return Ok(()) };
        match self.world.chance.below(8) {
            0 | 1 => return Err(Stop::Crash),
            2 => self.world.server.fuse = Some(self.world.chance.below(20)),
            3 | 4 => self.cut_or_mend(self.at),
            5 => self.bus_goes_or_comes(),
            6 => return self.adopt(),
            _ => self.bus.loses_in = [0, 0, 12, 3, 1][self.world.chance.below(5)],
        }
        Ok(())
    }

    /// A quiet moment: everything moves a little.
    fn all_busy(&mut self) -> Go {
        for client in 0..self.world.clients.len() {
            self.wake(client)?;
            self.of(client).client_reads(client)?;
        }
        for _ in 0..4 {
            for at in (0..self.count()).filter(|&at| self.is_up(at)).collect::<Vec<_>>() {
                self.go(at);
                let step = self.move_node();
                survive(self, step)?;
            }
            self.hear_bus()?;
        }
        Ok(())
    }

    fn move_node(&mut self) -> Go {
        self.world.look_at_token()?;
        self.world.server_reads()?;
        self.world.turn()?;
        self.world.progress()?;
        self.world.server_writes()
    }
}
