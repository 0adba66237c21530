//! The network's ops on a device: what the contracts in `ops` ask for, in terms of the launches here.

use std::cell::RefCell;
use std::sync::Arc;

use half::f16;

use super::conv::{self, PackedConv};
use super::deconv::PackedDeconv;
use super::driver::{Buffer, DeviceError, Driver, Parameters as _};
use super::head::{self, PackedHead};
use super::params;
use super::pictures::{Downloads, Uploads};
use super::recorder::Recorder;
use super::scores::Scores;
use super::tensor::{Layout, Tensor};
use super::{flow, fusion};
use crate::backend::{Backend, BackendDescription, Gpu};
use crate::frame::{Picture, PictureFormat};
use crate::ops::conv::ConvWeights;
use crate::ops::deconv::DeconvWeights;
use crate::ops::flow::{HANDED_ON, Stage, View, records_shape};
use crate::ops::fusion::Fusion;
use crate::ops::head::{HeadWeights, Padding, record_channels};
use crate::ops::metrics::Measures;
use crate::ops::tensor as plain;

/// Pictures of a batch at the most: enough to fill a large device in the coarse blocks of a 1080p picture.
pub const BATCH: usize = 4;
/// Batches to be asked for before the first picture is collected: one that runs, one that waits, one that is filled.
const BATCHES_AHEAD: usize = 3;
/// Channels of an image in memory.
const IMAGE_STORED: usize = 4;

/// A device and what the ops keep on it between calls.
#[derive(Debug)]
pub struct Cuda {
    driver: Arc<dyn Driver>,
    recorder: Arc<Recorder>,
    /// The first failure that was not told yet: until then nothing more is done.
    failure: RefCell<Option<DeviceError>>,
    batch: usize,
    views: Views,
    /// Between the layers of the feature network.
    head: [Tensor; 2],
    /// A block's input, where it is stored.
    stage: Tensor,
    /// What the end of the network keeps.
    end: fusion::Scratch,
    uploads: Uploads,
    downloads: Downloads,
    scores: Scores,
}

/// A picture on its way from the device; none after a failure.
#[derive(Debug)]
pub struct Download {
    format: PictureFormat,
    lane: Option<Arc<super::pictures::Lane>>,
}

/// The views of the batch at hand, on the device.
#[derive(Debug, Default)]
struct Views {
    memory: Option<Buffer>,
    content: Vec<u8>,
}

impl Views {
    /// Where the views lie on the device. Copied only when they change, which is between batches: the launches of a
    /// batch are the same whatever its frames and times are.
    fn upload(
        &mut self,
        driver: &Arc<dyn Driver>,
        views: &[View<'_, Tensor>],
    ) -> Result<u64, DeviceError> {
        let mut content = vec![];
        for view in views {
            let [record0, record1] = view.records.map(Tensor::address);
            let view = params::View { record0, record1, timestep: view.timestep, unused: 0 };
            content.extend_from_slice(view.as_bytes());
        }
        let memory = match self.memory.take() {
            Some(memory) if memory.bytes() >= content.len() => memory,
            _ => {
                self.content.clear();
                Buffer::new(driver, size_of::<params::View>() * views.len().max(BATCH))?
            }
        };
        let address = memory.address();
        if content != self.content {
            self.content.clear();
            driver.upload(address, &content)?;
            self.content = content;
        }
        self.memory = Some(memory);
        Ok(address)
    }
}

impl Cuda {
    /// Batches of up to [`BATCH`] pictures on a device.
    #[must_use]
    pub fn new(driver: Arc<dyn Driver>) -> Self {
        Self::with_batch(driver, BATCH)
    }

    /// Batches of up to `batch` pictures (at least one) on a device.
    #[must_use]
    pub fn with_batch(driver: Arc<dyn Driver>, batch: usize) -> Self {
        let recorder = Arc::new(Recorder::new(driver));
        Self {
            driver: Arc::clone(&recorder) as Arc<dyn Driver>,
            recorder,
            failure: RefCell::default(),
            batch: batch.max(1),
            views: Views::default(),
            head: Default::default(),
            stage: Tensor::default(),
            end: fusion::Scratch::default(),
            uploads: Uploads::default(),
            downloads: Downloads::default(),
            scores: Scores::default(),
        }
    }

    /// Runs `act` unless something failed before; nothing where it fails.
    fn attempt<T>(
        &mut self,
        act: impl FnOnce(&mut Self, &Arc<dyn Driver>) -> Result<T, DeviceError>,
    ) -> Option<T> {
        if self.failure.borrow().is_some() {
            return None;
        }
        let driver = Arc::clone(&self.driver);
        let result = act(self, &driver);
        self.note(result)
    }

    fn note<T>(&self, result: Result<T, DeviceError>) -> Option<T> {
        result
            .inspect_err(|error| {
                self.failure.borrow_mut().get_or_insert_with(|| error.clone());
            })
            .ok()
    }

    /// Packs weights unless something failed before.
    fn pack<T>(&self, pack: impl FnOnce(&Arc<dyn Driver>) -> Result<T, DeviceError>) -> Option<T> {
        if self.failure.borrow().is_some() {
            return None;
        }
        self.note(pack(&self.driver))
    }

    /// The first bytes of a tensor's memory.
    fn fetch(&self, address: u64, bytes: usize) -> Vec<u8> {
        let mut content = vec![0; bytes];
        if self.failure.borrow().is_none() {
            self.note(self.driver.download(address, &mut content));
        }
        content
    }
}

impl Drop for Cuda {
    /// The next one on the device, for other pictures or smaller batches, has its own lanes.
    fn drop(&mut self) {
        self.driver.empty_lanes();
    }
}

impl Backend for Cuda {
    type Tensor = Tensor;
    type Image = Tensor;
    type Download = Download;
    type Conv = Option<PackedConv>;
    type Deconv = Option<PackedDeconv>;
    type Head = Option<PackedHead>;

    fn description(&self) -> BackendDescription {
        let device = self.driver.description();
        let (major, minor) = device.capability;
        BackendDescription {
            device_kind: "cuda".into(),
            device_name: device.name.clone(),
            precision: "f16".into(),
            instructions: format!("sm_{major}{minor}"),
            threads: 0,
            setbacks: self.recorder.setback().into_iter().collect(),
            gpu: Some(Gpu {
                uuid: device.uuid.clone(),
                cuda: device.cuda(),
                memory_peak_bytes: self.driver.peak_bytes(),
            }),
        }
    }

    fn max_batch(&self) -> usize {
        self.batch
    }

    fn depth(&self) -> usize {
        BATCHES_AHEAD * self.batch
    }

    fn status(&mut self) -> Result<(), DeviceError> {
        self.failure.take().map_or(Ok(()), Err)
    }

    fn sequence(&mut self, body: &mut dyn FnMut(&mut Self)) {
        self.recorder.begin();
        body(self);
        if self.failure.borrow().is_some() {
            self.recorder.cancel();
        } else {
            self.note(self.recorder.run());
        }
    }

    fn pack_conv(&self, weights: &ConvWeights) -> Self::Conv {
        let order: Vec<_> = (0..weights.in_channels).map(Some).collect();
        self.pack(|driver| PackedConv::new(driver, weights, &order))
    }

    fn pack_stage_conv(&self, weights: &ConvWeights, _features: usize) -> Self::Conv {
        let order = flow::input_order(weights.in_channels);
        self.pack(|driver| PackedConv::new(driver, weights, &order))
    }

    fn pack_deconv(&self, weights: &DeconvWeights) -> Self::Deconv {
        self.pack(|driver| PackedDeconv::new(driver, weights))
    }

    fn pack_head(&self, weights: &HeadWeights) -> Self::Head {
        self.pack(|driver| PackedHead::new(driver, weights))
    }

    fn image_from_picture(&mut self, picture: &Picture, image: &mut Tensor) {
        self.attempt(|it, driver| it.uploads.image(driver, picture, image));
    }

    fn image_from_rgb(&mut self, rgb: &[f32], [height, width]: [usize; 2], image: &mut Tensor) {
        assert_eq!(rgb.len(), 3 * height * width, "rgb of the picture");
        let mut content = Vec::with_capacity(8 * height * width);
        for pixel in rgb.chunks_exact(3) {
            // NaN is not above 0.
            let unit = |value: f32| if value > 0.0 { value.min(1.0) } else { 0.0 };
            for value in [unit(pixel[0]), unit(pixel[1]), unit(pixel[2]), 0.0] {
                content.extend_from_slice(&f16::from_f32(value).to_le_bytes());
            }
        }
        self.attempt(|_, driver| {
            image.reshape(driver, [1, height, width, 3], IMAGE_STORED)?;
            driver.upload(image.address(), &content)
        });
    }

    fn image_to_rgb(&mut self, image: &Tensor, index: usize) -> Vec<f32> {
        let bytes = 2 * image.h * image.w * image.stored;
        let content = self.fetch(image.address() + (index * bytes) as u64, bytes);
        let values = halves(&content);
        values.chunks_exact(image.stored.max(1)).flat_map(|pixel| pixel[..3].to_vec()).collect()
    }

    fn start_picture(&mut self, image: &Tensor, index: usize, format: PictureFormat) -> Download {
        let lane = self.attempt(|it, driver| it.downloads.start(driver, image, index, format));
        Download { format, lane }
    }

    fn finish_picture(&mut self, download: Download) -> Picture {
        let mut picture = Picture::zeroed(download.format);
        if let Some(lane) = download.lane {
            self.attempt(|_, driver| lane.collect(driver, &mut picture));
        }
        picture
    }

    fn measures(&self) -> bool {
        true
    }

    fn start_measures(&mut self, truth: &Picture, predicted: &[&Picture]) -> bool {
        let started =
            self.attempt(|it, driver| it.scores.start(driver, &mut it.downloads, truth, predicted));
        started.unwrap_or(false)
    }

    fn finish_measures(&mut self) -> Option<Vec<Measures>> {
        self.attempt(|it, driver| it.scores.finish(driver)).flatten()
    }

    fn record(
        &mut self,
        head: Option<&Self::Head>,
        image: &Tensor,
        padding: &Padding,
        record: &mut Tensor,
    ) {
        let padded = [padding.padded_height, padding.padded_width];
        self.attempt(|it, driver| match head {
            Some(Some(head)) => head.run(driver, image, padded, &mut it.head, record),
            // Its packing failed, which was noted.
            Some(None) => Ok(()),
            None => head::plain_record(driver, image, padded, record),
        });
    }

    fn stage_conv(&mut self, conv: &Self::Conv, stage: &Stage<'_, Tensor>, output: &mut Tensor) {
        let Some(conv) = conv else { return };
        // Tensors have their shapes only while nothing failed.
        self.attempt(|it, driver| {
            stage.check();
            let [h, w, _] = records_shape(stage.views);
            let inputs = flow::Inputs {
                views: it.views.upload(driver, stage.views)?,
                n: stage.views.len(),
                full: [h, w],
                features: stage.features,
                factor: stage.factor,
                earlier: stage.earlier,
                mask: stage.mask,
                // Nothing comes before the first block.
                handed_on: if stage.earlier.is_empty() { 0 } else { stage.handed_on },
            };
            flow::stage_conv(driver, &inputs, conv, &mut it.stage, output)
        });
    }

    fn conv(&mut self, conv: &Self::Conv, input: &Tensor, output: &mut Tensor) {
        let Some(conv) = conv else { return };
        self.attempt(|_, driver| conv.run(driver, input, output));
    }

    fn deconv(&mut self, deconv: &Self::Deconv, input: &Tensor, output: &mut Tensor) {
        let Some(deconv) = deconv else { return };
        self.attempt(|_, driver| deconv.run(driver, input, output));
    }

    fn deconv_fusion(
        &mut self,
        deconv: &Self::Deconv,
        input: &Tensor,
        fusion: &Fusion<'_, Tensor>,
        image: &mut Tensor,
    ) {
        let Some(deconv) = deconv else { return };
        self.attempt(|it, driver| {
            let [h, w, channels] = records_shape(fusion.views);
            let frames = fusion::Frames {
                views: it.views.upload(driver, fusion.views)?,
                n: fusion.views.len(),
                full: [h, w],
                frame: [fusion.height, fusion.width],
                features: features_in(channels),
                earlier: fusion.earlier,
                mask: fusion.mask,
                sampling: fusion.sampling,
                refine: fusion.refine,
                factor: fusion.factor,
            };
            fusion::deconv_fusion(driver, deconv, input, &frames, &mut it.end, image)
        });
    }

    fn add(&mut self, from: &Tensor, to: &mut Tensor) {
        self.attempt(|_, driver| conv::add(driver, from, to));
    }

    fn add_flows(&mut self, from: &Tensor, to: &mut Tensor) {
        self.attempt(|_, driver| flow::add_flows(driver, from, to));
    }

    fn to_plain(&self, tensor: &Tensor) -> plain::Tensor {
        let pixels = tensor.h * tensor.w;
        let mut copy = plain::Tensor::zeros(tensor.h, tensor.w, tensor.c);
        let parts: Vec<(usize, Vec<f32>)> = match tensor.layout {
            Layout::Half => {
                let content = self.fetch(tensor.address(), 2 * pixels * tensor.stored);
                vec![(tensor.stored, halves(&content))]
            }
            Layout::Output => {
                let flow = self.fetch(tensor.address(), 16 * pixels);
                let (words, _) = flow.as_chunks::<4>();
                let flow = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
                let mask = halves(&self.fetch(tensor.mask_address(), 2 * pixels));
                let bytes = 2 * pixels * tensor.stored;
                let handed = match tensor.stored {
                    0 => vec![],
                    _ => halves(&self.fetch(tensor.handed_address(), bytes)),
                };
                debug_assert_eq!(tensor.c, HANDED_ON + tensor.stored);
                vec![(4, flow), (1, mask), (tensor.stored, handed)]
            }
        };
        for (at, pixel) in copy.data.chunks_exact_mut(tensor.c.max(1)).enumerate() {
            let values = parts.iter().flat_map(|(c, part)| &part[at * c..(at + 1) * c]);
            pixel.iter_mut().zip(values).for_each(|(to, from)| *to = *from);
        }
        copy
    }
}

/// Features for which a record has so many channels in memory: any such number, as the picture's channels alone are read.
fn features_in(channels: usize) -> usize {
    if channels == record_channels(0) { 0 } else { channels - 3 }
}

fn halves(content: &[u8]) -> Vec<f32> {
    let (words, _) = content.as_chunks::<2>();
    words.iter().map(|word| f16::from_le_bytes(*word).to_f32()).collect()
}
